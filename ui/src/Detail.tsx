import { useCallback, useEffect, useMemo, useRef, useState } from 'preact/hooks';
import * as api from './api';
import { Actions, Ask } from './Action';
import { Chart, type Flag } from './Chart';
import {
  about, clock, count, dateTime, difference, headline, label, metricName, percent, resultWords, span, stale, stateWords, table, takenBack, tone, troubled, value, waitWords, weight, whatWords,
} from './format';
import { Glyph, Mark } from './icons';
import type { Decision, Figure, MetricSeries, Offer, Ref, Series, View, Who } from './model';
import { Copy, Countdown, Gauge, Interval, Panel, Said, useNow } from './parts';
import * as past from './series';
import { follow, type Line } from './stream';

interface Props {
  at?: string; // frozen at
  frozen?: { view: View; series: Series; version: string }; // from a file
  theme: string;
  target: Ref;
  onLine(l: Line): void;
  onTitle(t: string): void;
}

export function Detail({ target, at, frozen, theme, onLine, onTitle }: Props) {
  const [view, setView] = useState<View | undefined>(frozen?.view);
  const [gone, setGone] = useState(false);
  const [wrong, setWrong] = useState('');
  const [who, setWho] = useState<Who>();
  const [offer, setOffer] = useState<Offer>();
  const [said, setSaid] = useState<{ text: string; bad: boolean }>();
  const series = useRef<Series>(frozen?.series ?? past.empty());
  const [, redraw] = useState(0);
  const key = (target.namespace ?? '') + '/' + target.name;

  useEffect(() => {
    if (frozen) return;
    let closed = false;
    series.current = past.empty();
    setView(undefined);
    setGone(false);
    setWrong('');
    const fetchSeries = async () => {
      try {
        const t = series.current.t;
        const more = await api.series(target, t.length ? t[t.length - 1]! - 30 : undefined);
        if (closed) return;
        series.current = past.join(series.current, more);
        redraw((n) => n + 1);
      } catch {
        // the stream says what is wrong
      }
    };
    if (at) {
      Promise.all([api.view(target, at), api.series(target)])
        .then(([v, s]) => {
          if (closed) return;
          const to = Date.parse(at) / 1000;
          series.current = past.cut(s, -Infinity, to);
          setView(v);
          onLine({ state: 'live' });
        })
        .catch((e: Error) => !closed && setWrong(e.message));
      return () => {
        closed = true;
      };
    }
    void fetchSeries();
    const s = follow({
      url: api.eventsOf(target),
      onLine: (l) => {
        if (l.state === 'refused') setWrong(l.why);
        onLine(l);
      },
      onBack: () => void fetchSeries(),
      onMessages: (ms) => {
        for (const m of ms) {
          if (m.event === 'gone') {
            setGone(true);
            continue;
          }
          if (m.event !== 'rollout') continue;
          const v = JSON.parse(m.data) as View;
          past.append(series.current, v);
          setGone(false);
          setView(v);
        }
      },
    });
    return () => {
      closed = true;
      s.close();
    };
  }, [key, at]);

  // Who may do what: asked again when something has changed that it could hang on.
  const step = view?.step;
  const phase = view?.phase;
  useEffect(() => {
    if (frozen || at) return;
    let closed = false;
    api.who(target).then((w) => !closed && setWho(w), () => !closed && setWho(undefined));
    return () => {
      closed = true;
    };
  }, [key, at, step, phase, view?.waiting]);

  const offers = useMemo(() => (view?.offers ?? []).filter((o) => who?.may?.includes(o.verb)), [view?.offers, who]);

  useEffect(() => {
    if (view) onTitle(`${view.canary && view.phase !== 'Idle' ? weight(view.weightSet) + ' ' + view.canary.version + ' · ' : ''}${view.name} · Serin`);
  }, [view?.name, view?.weightSet, view?.phase, view?.canary?.version]);

  if (wrong && !view) {
    return (
      <main class="page narrow">
        <Panel title="Nothing to show">
          <p>{wrong}</p>
          <p>
            <a href="#/">All rollouts</a>
          </p>
        </Panel>
      </main>
    );
  }
  if (!view) {
    return (
      <main class="page narrow" aria-busy="true">
        <p class="muted loading">Loading {target.name}…</p>
      </main>
    );
  }
  return (
    <main class="page detail">
      <Top view={view} target={target} at={at} frozen={!!frozen} offers={offers} look={who?.look ?? false} onPick={setOffer} />
      {gone && <div class="banner warn" role="status">This rollout is gone: its document was removed. What is below is how it was last seen.</div>}
      {!frozen && !at && !gone && <Stale view={view} />}
      <DriftBanner view={view} />
      <Hero view={view} series={series.current} frozen={!!frozen || !!at} />
      <Charts view={view} series={series.current} theme={theme} />
      <div class="columns">
        <Timeline view={view} />
        <div class="stack">
          <Gates view={view} frozen={!!frozen || !!at} />
          <Cost view={view} />
          <Findings view={view} />
          <Recent view={view} />
        </div>
      </div>
      {offer && who && <Ask view={view} offer={offer} name={who.name} onClose={() => setOffer(undefined)} onDone={(text, bad) => setSaid({ text, bad })} />}
      <Toast said={said} onEnd={() => setSaid(undefined)} />
    </main>
  );
}

function Toast({ said, onEnd }: { said?: { text: string; bad: boolean }; onEnd(): void }) {
  useEffect(() => {
    if (!said) return;
    const t = setTimeout(onEnd, 9000);
    return () => clearTimeout(t);
  }, [said]);
  return (
    <div class="toasts" role="status" aria-live="polite">
      {said && <div class={'toast' + (said.bad ? ' bad' : '')}>{said.text}</div>}
    </div>
  );
}

const phaseWords = (v: View): string => {
  switch (v.phase) {
    case 'Idle':
      return 'at rest';
    case 'Preparing':
      return 'preparing';
    case 'Progressing':
      return `step ${v.step} of ${v.steps}`;
    case 'Promoting':
      return 'to everybody';
    case 'Baking':
      return 'baking at 100 %';
    case 'RollingBack':
      return 'taking it back';
  }
};

function Top({ view, target, at, frozen, offers, look, onPick }: { view: View; target: Ref; at?: string; frozen: boolean; offers: Offer[]; look: boolean; onPick(o: Offer): void }) {
  const link = () => {
    const u = new URL(location.href);
    u.hash = hashOf(target, new Date(Date.parse(view.time)).toISOString());
    return u.toString();
  };
  return (
    <div class="top">
      <div class="top-name">
        {!frozen && (
          <a class="back" href="#/" aria-label="All rollouts">
            ‹
          </a>
        )}
        <h1>{view.name}</h1>
        {view.namespace && <span class="tag">{view.namespace}</span>}
        <span class="tag phase">{phaseWords(view)}</span>
        {look && <span class="tag">view only</span>}
      </div>
      <div class="top-right">
        {!frozen && (
          <div class="quiet">
            <Copy text={link()} label="Share this moment" />
            <a class="btn small" href={api.exportUrl(target, at)} download>
              Export
            </a>
          </div>
        )}
        <Actions offers={offers} onPick={onPick} />
      </div>
      {(at || frozen) && (
        <div class="banner frozen" role="status">
          <b>Frozen</b> at {dateTime(view.time)}: this is how it was then.{' '}
          {!frozen && <a href={hashOf(target)}>How it is now</a>}
        </div>
      )}
    </div>
  );
}

export const hashOf = (r: Ref, at?: string): string =>
  '#/r/' + encodeURIComponent(r.namespace || '-') + '/' + encodeURIComponent(r.name) + (at ? '?at=' + encodeURIComponent(at) : '');

/** Nothing newer has come, although the line stands: what is shown may be long over. */
function Stale({ view }: { view: View }) {
  const age = stale(view, useNow());
  if (age === undefined) return null;
  return (
    <div class="banner bad" role="status">
      <b>This is how it was {span(age)} ago.</b> Nothing newer has come since, although it is under way: whoever runs it may have stopped, or may not be reached from here.
    </div>
  );
}

function DriftBanner({ view }: { view: View }) {
  const d = view.drift;
  if (!d) return null;
  const who = d.manager || 'Somebody';
  return (
    <div class={'banner ' + (d.fighting ? 'bad' : 'warn')} role="status">
      <p>
        <Glyph tone="person" size={18} />{' '}
        <b>
          {d.fighting ? `${who} keeps writing the route` : `${who} wrote the route`}
        </b>
        {d.flips > 0 && `, ${d.flips}× in the last ten minutes`}
        {d.split && `. It holds their split now: ${d.split}`}.
      </p>
      {d.remedy && (
        <div class="paste">
          <p>Paste this into the tool that does it:</p>
          <pre>{d.remedy}</pre>
          <Copy text={d.remedy} label="Copy" />
        </div>
      )}
    </div>
  );
}

function Hero({ view, series, frozen }: { view: View; series: Series; frozen: boolean }) {
  const now = useNow(frozen ? Date.parse(view.time) : undefined);
  const back = takenBack(view);
  const t = tone(view, !!back);
  const moving = view.phase !== 'Idle' && !!view.canary;
  const judged = moving && (view.phase === 'Progressing' || view.phase === 'Promoting' || view.phase === 'Baking');
  const nodata = view.verdict === 'Unavailable';
  const last = view.history?.[view.history.length - 1];
  const sentence = moving ? view.sentence || view.message : back && last?.why ? last.why : view.stalled || view.message;
  return (
    <section class={'hero h-' + t} aria-label="Verdict">
      <div class="hero-main">
        <div class="hero-verdict">
          <Glyph tone={t} size={44} />
          <div>
            <h2 class="headline" aria-live="polite">
              {headline(view)}
            </h2>
            <p class="sentence">
              <Said text={sentence} />
            </p>
          </div>
        </div>
        {judged && <Gauge rollback={view.evidence.rollback} advance={view.evidence.advance} nodata={nodata} toGo={frozen ? undefined : past.requestsToGo(series, view)} />}
        {judged && <Chips figures={view.figures ?? []} />}
      </div>
      <div class="hero-side">
        <Traffic view={view} />
        {moving && (
          <p class="waits">
            {view.waiting ? (
              <>
                <Glyph tone={view.waiting === 'approval' || view.waiting === 'person' ? 'person' : 'wait'} size={18} /> Waits for <b>{waitWords(view.waiting)}</b>
                {view.until && (
                  <>
                    {' '}
                    · at the latest in <Countdown until={view.until} now={now} />
                  </>
                )}
              </>
            ) : (
              <>Nothing is waited for.</>
            )}
          </p>
        )}
        {(troubled(view) || (moving && view.waiting !== 'hold')) && view.message && view.message !== sentence && <p class="muted small-text"><Said text={view.message} /></p>}
        {!moving && last && (
          <p class="muted small-text">
            Last release: {label(last.revision)}, {resultWords(last.result)} {dateTime(last.ended)} after {span((Date.parse(last.ended) - Date.parse(last.started)) / 1000)}.
          </p>
        )}
      </div>
    </section>
  );
}

const stateTone = table<'pass' | 'fail' | 'wait' | 'nodata' | 'person'>({ ok: 'pass', better: 'pass', pending: 'person', worse: 'person', firing: 'fail', both: 'person', noData: 'nodata' });

function Chips({ figures }: { figures: Figure[] }) {
  return (
    <ul class="chips" aria-label="Metrics">
      {figures.map((f) => (
        <li key={f.metric} class={'chip' + (f.state === 'noData' ? ' hatched' : '')}>
          <Glyph tone={stateTone[f.state] ?? 'wait'} size={16} />
          <b>{metricName(f.metric)}</b>
          <span class="num">{f.state === 'noData' ? 'no data: holds promotion' : difference(f.canary - f.stable, f.unit)}</span>
          {f.state !== 'noData' && f.state !== 'ok' && <span>{stateWords[f.state] ?? f.state}</span>}
        </li>
      ))}
    </ul>
  );
}

/** The split as it is: a bar, and who is behind each part. */
function Traffic({ view }: { view: View }) {
  const moving = view.phase !== 'Idle' && !!view.canary;
  const set = moving ? view.weightSet / 100 : 0;
  const seen = view.weightSeen;
  const ready = (v?: { ready: number | null; replicas: number; why?: string }) =>
    v ? `${v.ready ?? '?'}/${v.replicas} ready${v.why && v.ready !== v.replicas ? ` (${v.why})` : ''}` : '';
  return (
    <div class="traffic">
      <div class="arms">
        <div class="arm">
          <span class="arm-name">
            <Mark arm="stable" /> {view.stable?.version ?? 'none'}
          </span>
          <span class="arm-share num stable-ink">{weightText(100 - set)}</span>
          <span class="muted small-text">stable · {ready(view.stable)}</span>
        </div>
        {moving && view.canary && (
          <div class="arm right">
            <span class="arm-name">
              <Mark arm="canary" /> {view.canary.version}
            </span>
            <span class="arm-share num canary-ink">{weightText(set)}</span>
            <span class="muted small-text">canary · {ready(view.canary)}</span>
          </div>
        )}
      </div>
      <div
        class="split"
        role="img"
        aria-label={moving ? `${weightText(set)} of the traffic is set for ${view.canary!.version}${seen !== null ? `, ${percent(seen)} seen` : ', not measured'}` : `${view.stable?.version ?? 'stable'} has all the traffic`}
      >
        <i class="split-canary" style={{ width: set + '%' }} />
        {moving && seen !== null && <i class="split-seen" style={{ right: Math.min(100, seen * 100) + '%' }} />}
      </div>
      {moving && (
        <p class="small-text muted split-words num">
          set {weightText(set)} · {seen !== null ? `seen ${percent(seen)}` : 'not measured yet'} · {view.live ? 'in force' : 'not seen in force yet'}
        </p>
      )}
      <Steps view={view} />
    </div>
  );
}

const weightText = (p: number): string => weight(Math.round(p * 100));

function Steps({ view }: { view: View }) {
  const steps = view.stepsList ?? [];
  if (view.phase === 'Idle' || steps.length === 0) return null;
  return (
    <ol class="steps" aria-label="Steps">
      {steps.map((s, i) => (
        <li key={i} class={'step st-' + s.state} aria-current={s.state === 'current' ? 'step' : undefined} title={s.text}>
          <i />
          <span>{s.kind === 'weight' && s.weight ? weight(s.weight) : s.kind}</span>
        </li>
      ))}
      <li class={'step st-' + (view.phase === 'Baking' ? 'current' : 'ahead')}>
        <i />
        <span>bake</span>
      </li>
    </ol>
  );
}

const loud = new Set([
  'StepStarted', 'BakeStarted', 'Promoted', 'RolledBack', 'Aborted', 'Paused', 'Resumed', 'Approved', 'Undone', 'Reverted', 'Overridden', 'DriftObeyed', 'DriftUndone', 'DriftFight', 'Stalled', 'TrafficBack', 'Withdrawn', 'RolloutStarted',
]);
const bad = new Set(['RolledBack', 'Aborted', 'Stalled', 'DriftFight', 'StableLost']);
const good = new Set(['Promoted', 'Approved']);

// What a step begins with, its first figures still on their way, is no gap.
const moment = 4.5;

function Charts({ view, series, theme }: { view: View; series: Series; theme: string }) {
  const [all, setAll] = useState(false);
  const [i, setI] = useState<number | null>(null);
  const [from, to] = past.period(view, series, all);
  const s = all ? past.cut(series, from - 2, to + 2) : past.release(series, from, to + 2);
  const sparse = s.sparse !== undefined && s.t.length > 0 && s.t[0]! < s.sparse ? s.sparse : undefined;
  const flags: Flag[] = (view.decisions ?? [])
    .filter((d) => loud.has(d.what))
    .map((d) => ({ t: Date.parse(d.at) / 1000, n: d.n, text: whatWords(d.what) + (d.to ? ' ' + d.to : ''), tone: bad.has(d.what) ? 'bad' : good.has(d.what) ? 'good' : 'plain' }));
  const goTo = useCallback((n: number) => {
    const el = document.getElementById('d' + n);
    el?.scrollIntoView({ block: 'center', behavior: matchMedia('(prefers-reduced-motion: reduce)').matches ? 'auto' : 'smooth' });
    el?.focus({ preventScroll: true });
  }, []);
  const cursor = useCallback((x: number | null) => setI(x), []);
  const shared = { t: s.t, from, to, sync: 'serin', theme, flags, onCursor: cursor };
  const nodata = past.stretches(s.t, s.verdict, 'N', moment);
  const at = i !== null && i < s.t.length ? i : null;
  const setNow = at !== null ? s.set[at] : view.phase === 'Idle' ? 0 : view.weightSet / 10000;
  const seenNow = at !== null ? s.seen[at] : view.weightSeen;
  if (s.t.length === 0) {
    return (
      <Panel title="How it went">
        <p class="muted">Nothing is kept of a release here yet: figures are kept for a day, since this host started. The decisions below are older.</p>
      </Panel>
    );
  }
  return (
    <div class="charts">
      <Panel
        title="Weight"
        class="wide"
        aside={
          <>
            <span class="legend num">
              <span>
                <i class="key k-canary" /> set {setNow === null || setNow === undefined ? '–' : percent(setNow)}
              </span>
              <span>
                <i class="key k-dots" /> seen {seenNow === null || seenNow === undefined ? '–' : percent(seenNow)}
              </span>
              {at !== null && <span class="muted">{clock(s.t[at]! * 1000)}</span>}
            </span>
            <div class="switch" role="group" aria-label="Time shown">
              <button type="button" class={all ? '' : 'on'} aria-pressed={!all} onClick={() => setAll(false)}>
                This release
              </button>
              <button type="button" class={all ? 'on' : ''} aria-pressed={all} onClick={() => setAll(true)}>
                All that is kept
              </button>
            </div>
          </>
        }
      >
        <Chart
          {...shared}
          numbered
          onFlag={goTo}
          label={`Weight of the canary over time. Now set ${percent(setNow ?? 0)}.`}
          lines={[
            { label: 'set', values: s.set, color: '--canary', stepped: true, width: 2.5 },
            { label: 'seen', values: s.seen, color: '--canary-ink', points: true },
          ]}
          gaps={nodata}
          fixed
          max={1}
          least={1}
          format={(y) => percent(y, 0)}
          height={170}
        />
        {sparse !== undefined && (
          <p class="muted small-text">
            {s.t[s.t.length - 1]! < sparse ? 'Of this' : `Of what was before ${clock(sparse * 1000)}`} only decisions were kept: a dot is a figure that one rests on.
          </p>
        )}
      </Panel>
      {s.metrics.map((m) => (
        <Metric key={m.metric + m.unit} m={m} f={at === null && view.phase !== 'Idle' ? view.figures?.find((x) => x.metric === m.metric) : figureAt(m, at)} view={view} shared={shared} t={s.t} />
      ))}
    </div>
  );
}

const names = table({ n: 'noData', o: 'ok', p: 'pending', f: 'firing', b: 'both', w: 'worse', '+': 'better' });

/** A metric's figure at one instant, or the last that there was. */
function figureAt(m: MetricSeries, at: number | null): Figure | undefined {
  let i = at ?? m.state.length - 1;
  if (at === null) while (i > 0 && m.canary[i] === null) i--;
  const c = m.canary[i];
  const st = m.stable[i];
  const state = names[m.state[i] ?? ''] ?? 'noData';
  if (c === null || c === undefined) return { metric: m.metric, unit: m.unit, canary: 0, stable: 0, canaryN: 0, stableN: 0, low: 0, high: 0, limit: 0, window: 0, state: 'noData' };
  return { metric: m.metric, unit: m.unit, canary: c, stable: st ?? 0, canaryN: 0, stableN: 0, low: m.low[i] ?? 0, high: m.high[i] ?? 0, limit: m.limit[i] ?? 0, window: 0, state };
}

interface Shared {
  t: number[];
  from: number;
  to: number;
  sync: string;
  theme: string;
  flags: Flag[];
  onCursor(i: number | null): void;
}

function Metric({ m, f, view, shared, t }: { m: MetricSeries; f?: Figure; view: View; shared: Shared; t: number[] }) {
  const data = f && f.state !== 'noData';
  const low = m.low.map((x, i) => (x === null ? null : Math.max(0, (m.stable[i] ?? 0) + x)));
  const high = m.high.map((x, i) => (x === null ? null : Math.max(0, (m.stable[i] ?? 0) + x)));
  const banded = m.low.some((x) => x !== null);
  const limited = m.limit.some((x) => x !== null);
  const most = Math.max(0, ...m.canary.map((x) => x ?? 0), ...m.stable.map((x) => x ?? 0));
  const limit = Math.max(0, ...m.limit.map((x) => x ?? 0));
  // The band of a release's first requests is as wide as anything: it runs out
  // of sight then, rather than that everything after it lies flat.
  const wide = m.high.map((x, i) => (x === null ? 0 : Math.max(0, (m.stable[i] ?? 0) + x))).filter((x) => x > 0);
  const band = Math.max(wide[wide.length - 1] ?? 0, wide.sort((a, b) => a - b)[Math.floor(wide.length / 2)] ?? 0);
  // The limit is in sight unless it is so far away that the lines would lie flat.
  const lines = [
    { label: 'stable', values: m.stable, color: '--stable' },
    { label: 'canary', values: m.canary, color: '--canary', width: 2.5 },
  ];
  const inSight = limited && (most === 0 || limit < most * 8);
  const c = view.canary?.version ?? 'canary';
  const s = view.stable?.version ?? 'stable';
  return (
    <Panel
      title={metricName(m.metric)}
      aside={
        <span class="legend num">
          <span>
            <Mark arm="stable" /> {data ? value(f.stable, m.unit) : '–'}
          </span>
          <span>
            <Mark arm="canary" /> {data ? value(f.canary, m.unit) : '–'}
          </span>
          <span class={'state' + (data ? '' : ' hatched')}>
            <Glyph tone={stateTone[f?.state ?? 'noData'] ?? 'wait'} size={15} /> {stateWords[f?.state ?? 'noData'] ?? f?.state}
          </span>
        </span>
      }
    >
      <Chart
        {...shared}
        label={`${metricName(m.metric)} of both versions on one axis. ${data ? `${s}: ${value(f.stable, m.unit)}, ${c}: ${value(f.canary, m.unit)}` : 'No data.'}`}
        lines={inSight ? [...lines, { label: 'limit', values: m.limit, color: '--limit', dash: [6, 4], width: 1.5 }] : lines}
        band={banded ? { low, high, color: '--band' } : undefined}
        gaps={past.stretches(t, m.state, 'n', moment)}
        max={Math.max(most, band, inSight ? limit : 0)}
        least={m.unit === 'share' ? 0.01 : 1}
        format={(y) => value(y, m.unit)}
        height={150}
      />
      {data && <Interval f={f} />}
      {limited && !inSight && data && <p class="muted small-text">The limit, {value(limit, m.unit)}, is far above what is drawn.</p>}
    </Panel>
  );
}

function Cost({ view }: { view: View }) {
  const last = view.history?.[view.history.length - 1];
  const moving = view.phase !== 'Idle';
  const exposed = moving ? view.exposed : (last?.exposed ?? 0);
  const harmed = moving ? view.harmed : (last?.harmed ?? 0);
  if (!moving && !last) return null;
  return (
    <Panel title={moving ? 'Cost so far' : `Cost of ${label(last!.revision)}`}>
      <dl class="cost">
        <div>
          <dt>exposed</dt>
          <dd class="num">{count(exposed)}</dd>
          <dd class="muted small-text">requests that the new version answered</dd>
        </div>
        <div>
          <dt>harmed</dt>
          <dd class="num">{harmed > 0 ? '≈ ' + about(harmed) : '0'}</dd>
          <dd class="muted small-text">that the old one would have answered well</dd>
        </div>
        {moving && (
          <div>
            <dt>worst case</dt>
            <dd class="num">{view.worst === undefined ? '–' : '≤ ' + count(Math.ceil(view.worst))}</dd>
            <dd class="muted small-text">{view.worst === undefined ? 'no band to tell it by' : 'by the upper end of the band, were it taken back now'}</dd>
          </div>
        )}
      </dl>
    </Panel>
  );
}

function Gates({ view, frozen }: { view: View; frozen: boolean }) {
  const now = useNow(frozen ? Date.parse(view.time) : undefined);
  const steps = view.stepsList ?? [];
  if (steps.length === 0) return null;
  const idle = view.phase === 'Idle';
  return (
    <Panel title={idle ? 'What a release goes through' : 'Steps and gates'}>
      <ol class="gates">
        {steps.map((s, i) => (
          <li key={i} class={'gate st-' + (idle ? 'ahead' : s.state)}>
            <span class="gate-mark" aria-hidden>
              {s.state === 'done' ? '✓' : s.state === 'current' && !idle ? '▸' : ''}
            </span>
            <span>
              {s.text}
              {s.approved && <span class="muted"> · approved by {s.approved}</span>}
              {s.kind === 'approval' && !s.approved && !s.by?.length && <span class="muted"> · by anybody who may approve</span>}
              {s.state === 'current' && !idle && view.waiting && (
                <span class="gate-waits">
                  {' '}
                  waits for {waitWords(view.waiting)}
                  {view.until && (
                    <>
                      {' '}
                      · <Countdown until={view.until} now={now} />
                    </>
                  )}
                </span>
              )}
            </span>
            <span class="sr-only">{s.state}</span>
          </li>
        ))}
      </ol>
    </Panel>
  );
}

function Findings({ view }: { view: View }) {
  const fs = view.findings ?? [];
  if (fs.length === 0) return null;
  return (
    <Panel title="Findings">
      <ul class="findings">
        {fs.map((f, i) => (
          <li key={i} class={'finding f-' + f.level}>
            <span class="tag">{f.level === 'Refuse' ? 'refuses' : f.level === 'Wait' ? 'waits' : 'warning'}</span>
            <p>
              <Said text={f.what} />
            </p>
            {f.remedy && (
              <p class="muted">
                <b>Remedy:</b> {f.remedy}
              </p>
            )}
          </li>
        ))}
      </ul>
    </Panel>
  );
}

function Recent({ view }: { view: View }) {
  const os = [...(view.history ?? [])].reverse();
  if (os.length === 0) return null;
  return (
    <Panel title="Recent releases">
      <div class="scroll-x" tabIndex={0} role="region" aria-label="Recent releases, table">
        <table class="recent">
          <thead>
            <tr>
              <th scope="col">Version</th>
              <th scope="col">Outcome</th>
              <th scope="col" class="r">Took</th>
              <th scope="col" class="r">Exposed</th>
              <th scope="col" class="r">Harmed</th>
            </tr>
          </thead>
          <tbody>
            {os.map((o, i) => (
              <tr key={i} title={o.why}>
                <th scope="row">
                  {label(o.revision)}
                  <span class="muted small-text block">{dateTime(o.ended)}</span>
                </th>
                <td>
                  <span class="outcome">
                    <Glyph tone={o.result === 'promoted' || o.result === 'reverted' ? 'pass' : 'back'} size={16} /> {resultWords(o.result)}
                  </span>
                  <span class="muted small-text block">by {o.by}</span>
                </td>
                <td class="num r">{span((Date.parse(o.ended) - Date.parse(o.started)) / 1000)}</td>
                <td class="num r">{count(o.exposed)}</td>
                <td class="num r">{o.harmed > 0 ? '≈ ' + about(o.harmed) : '0'}</td>
              </tr>
            ))}
          </tbody>
        </table>
      </div>
    </Panel>
  );
}

const rules = new Set(['rule', 'deadline', 'git']);

function Timeline({ view }: { view: View }) {
  const ds = [...(view.decisions ?? [])].reverse();
  const [more, setMore] = useState(false);
  const shown = more ? ds : ds.slice(0, 12);
  return (
    <Panel title="Decisions" aside={<span class="muted small-text">newest first, numbered without gaps</span>}>
      <ol class="timeline" reversed>
        {shown.map((d) => (
          <Entry key={d.n} d={d} view={view} />
        ))}
      </ol>
      {ds.length === 0 && <p class="muted">Nothing was decided yet.</p>}
      {ds.length > shown.length && (
        <button type="button" class="btn small" onClick={() => setMore(true)}>
          {ds.length - shown.length} older ones
        </button>
      )}
    </Panel>
  );
}

function Entry({ d, view }: { d: Decision; view: View }) {
  const fs = d.figures ?? [];
  const name = view.namespace ? `${view.namespace}/${view.name}` : view.name;
  return (
    <li id={'d' + d.n} tabIndex={-1} class={'entry ' + (bad.has(d.what) ? 'bad' : good.has(d.what) ? 'good' : '')}>
      <span class="entry-n num">{d.n}</span>
      <div>
        <p class="entry-head">
          <b>{whatWords(d.what)}</b>
          {(d.from || d.to) && (
            <span class="entry-move num">
              {d.from}
              {d.from && d.to ? ' → ' : ''}
              {d.to}
            </span>
          )}
          <span class={'author ' + (rules.has(d.by) ? '' : 'human')}>{d.by}</span>
          <time class="muted num" dateTime={d.at} title={dateTime(d.at)}>
            {clock(d.at)}
          </time>
        </p>
        <p class="entry-why">
          <Said text={d.why} />
        </p>
        {fs.length > 0 && (
          <details class="numbers">
            <summary>Open numbers</summary>
            <div class="scroll-x" tabIndex={0} role="region" aria-label={`Figures of decision ${d.n}`}>
              <table>
                <thead>
                  <tr>
                    <th scope="col">Metric</th>
                    <th scope="col" class="r">Canary</th>
                    <th scope="col" class="r">Stable</th>
                    <th scope="col" class="r">Difference, 95 %</th>
                    <th scope="col" class="r">Limit</th>
                    <th scope="col">State</th>
                  </tr>
                </thead>
                <tbody>
                  {fs.map((f) => (
                    <tr key={f.metric}>
                      <th scope="row">
                        {metricName(f.metric)}
                        {f.window > 0 && <span class="muted small-text block">over {span(f.window / 1e9)}</span>}
                      </th>
                      {f.state === 'noData' ? (
                        <td colSpan={3} class="hatched">
                          no data
                        </td>
                      ) : (
                        <>
                          <td class="num r">
                            {value(f.canary, f.unit)}
                            {f.canaryN > 0 && <span class="muted small-text block">of {count(f.canaryN)}</span>}
                          </td>
                          <td class="num r">
                            {value(f.stable, f.unit)}
                            {f.stableN > 0 && <span class="muted small-text block">of {count(f.stableN)}</span>}
                          </td>
                          <td class="num r">
                            {difference(f.canary - f.stable, f.unit)}
                            {(f.low !== 0 || f.high !== 0) && (
                              <span class="muted small-text block">
                                {difference(f.low, f.unit)} … {difference(f.high, f.unit)}
                              </span>
                            )}
                          </td>
                        </>
                      )}
                      <td class="num r">{f.limit ? value(f.limit, f.unit) : '–'}</td>
                      <td>{stateWords[f.state] ?? f.state}</td>
                    </tr>
                  ))}
                </tbody>
              </table>
            </div>
            <p class="cmd">
              <code>serin why {name} --decision {d.n}</code> <Copy text={`serin why ${name} --decision ${d.n}`} label="Copy" />
            </p>
          </details>
        )}
      </div>
    </li>
  );
}
