import { useEffect, useLayoutEffect, useMemo, useRef, useState } from 'preact/hooks';
import * as api from './api';
import { hashOf } from './Detail';
import { about, count, resultWords, span, summaryTone, table, waitWords, weight } from './format';
import { Glyph, Mark, toneWords } from './icons';
import { arrange, filters, type Filter, tally, visible } from './list';
import { type Summary, refKey } from './model';
import { Countdown, useNow } from './parts';
import { follow, type Line } from './stream';

/** The list of all rollouts. What it was is kept while a detail page is open. */
const kept = { search: '', filter: 'all' as Filter, top: 0 };

export function List({ onLine, onTitle }: { onLine(l: Line): void; onTitle(t: string): void }) {
  const all = useRef(new Map<string, Summary>());
  const [loaded, setLoaded] = useState(false);
  const [wrong, setWrong] = useState('');
  const [version, bump] = useState(0);
  const [search, setSearch] = useState(kept.search);
  const [filter, setFilter] = useState<Filter>(kept.filter);
  const box = useRef<HTMLInputElement>(null);
  kept.search = search;
  kept.filter = filter;

  useEffect(() => {
    let closed = false;
    let stream: { close(): void } | undefined;
    let due = 0;
    const draw = () => {
      if (!due) due = requestAnimationFrame(() => ((due = 0), bump((n) => n + 1)));
    };
    const open = async () => {
      let cursor = '';
      try {
        const b = await api.briefs();
        if (closed) return;
        for (const s of b.rollouts) all.current.set(refKey(s), s);
        cursor = b.cursor;
        setLoaded(true);
        draw();
      } catch (e) {
        if (closed) return;
        if (e instanceof api.Refused && (e.status === 401 || e.status === 403)) {
          setWrong(e.message);
          onLine({ state: 'refused', status: e.status, why: e.message });
          return;
        }
      }
      stream = follow({
        url: api.briefEvents,
        after: cursor,
        onLine,
        onMessages: (ms) => {
          for (const m of ms) {
            if (m.event === 'fresh') all.current.clear();
            else if (m.event === 'gone') all.current.delete(refKey(JSON.parse(m.data)));
            else if (m.event === 'brief') {
              const s = JSON.parse(m.data) as Summary;
              all.current.set(refKey(s), s);
            }
          }
          setLoaded(true);
          draw();
        },
      });
    };
    void open();
    return () => {
      closed = true;
      stream?.close();
      cancelAnimationFrame(due);
    };
  }, []);

  useEffect(() => {
    const key = (e: KeyboardEvent) => {
      const inField = e.target instanceof HTMLInputElement || e.target instanceof HTMLTextAreaElement;
      if (e.key === '/' && !inField && !e.ctrlKey && !e.metaKey && !e.altKey) {
        e.preventDefault();
        box.current?.focus();
        box.current?.select();
      }
    };
    addEventListener('keydown', key);
    return () => removeEventListener('keydown', key);
  }, []);

  const rows = useMemo(() => arrange(all.current.values(), filter, search.trim()), [version, filter, search]);
  const n = useMemo(() => tally(all.current.values()), [version]);
  const needs = n.approval + n.failing + n.noData + n.fighting;
  useEffect(() => onTitle(`${needs ? `(${needs}) ` : ''}Rollouts · Serin`), [needs]);

  return (
    <main class="page list-page">
      <div class="list-top">
        <h1>Rollouts</h1>
        <div class="filters" role="group" aria-label="Show">
          {filters.map((f) => (
            <button type="button" key={f.id} class={'filter fi-' + f.id + (filter === f.id ? ' on' : '')} aria-pressed={filter === f.id} onClick={() => setFilter(f.id)}>
              {f.text} <span class="num n">{count(n[f.id])}</span>
            </button>
          ))}
        </div>
        <label class="search">
          <span class="sr-only">Search</span>
          <input
            ref={box}
            type="search"
            placeholder="Search"
            aria-keyshortcuts="/"
            value={search}
            onInput={(e) => setSearch(e.currentTarget.value)}
            onKeyDown={(e) => {
              if (e.key === 'Escape') {
                setSearch('');
                e.currentTarget.blur();
              }
              if (e.key === 'ArrowDown' || e.key === 'Enter') {
                e.preventDefault();
                document.querySelector<HTMLElement>('.row')?.focus();
              }
            }}
          />
          <kbd aria-hidden>/</kbd>
        </label>
      </div>
      {wrong && <p class="banner warn">{wrong}</p>}
      <p class="sr-only" role="status">
        {loaded ? `${rows.length} rollouts shown` : 'Loading'}
      </p>
      {loaded && rows.length === 0 ? (
        <div class="empty">
          <Glyph tone="rest" size={32} />
          <p>{n.all === 0 ? 'There is no rollout yet.' : filter === 'all' ? 'No rollout matches the search.' : 'None: nothing of this kind at the moment.'}</p>
        </div>
      ) : (
        <Rows rows={rows} loaded={loaded} />
      )}
    </main>
  );
}

function Rows({ rows, loaded }: { rows: Summary[]; loaded: boolean }) {
  const box = useRef<HTMLDivElement>(null);
  const [at, setAt] = useState({ top: kept.top, height: 800 });
  const [row, setRow] = useState(52);
  const now = useNow();
  const pending = useRef<number | undefined>(undefined);

  useLayoutEffect(() => {
    const el = box.current!;
    const narrow = matchMedia('(max-width: 760px)');
    const size = () => {
      setRow(narrow.matches ? 76 : 52);
      setAt((a) => ({ ...a, height: el.clientHeight }));
    };
    size();
    el.scrollTop = kept.top;
    const seen = new ResizeObserver(size);
    seen.observe(el);
    narrow.addEventListener('change', size);
    return () => {
      seen.disconnect();
      narrow.removeEventListener('change', size);
    };
  }, []);

  const { from, to } = visible(at.top, at.height, row, rows.length);

  // Arrow keys go from row to row, also to those that are not drawn yet.
  const go = (i: number) => {
    if (i < 0 || i >= rows.length) return;
    const el = box.current!;
    if (i * row < el.scrollTop) el.scrollTop = i * row;
    else if ((i + 1) * row > el.scrollTop + el.clientHeight) el.scrollTop = (i + 1) * row - el.clientHeight;
    pending.current = i;
    focusPending();
  };
  const focusPending = () => {
    if (pending.current === undefined) return;
    const el = box.current?.querySelector<HTMLElement>(`[data-i="${pending.current}"]`);
    if (el) {
      el.focus({ preventScroll: true });
      pending.current = undefined;
    }
  };
  useLayoutEffect(focusPending);

  return (
    <>
      <div class="head" aria-hidden>
        <span />
        <span>Name</span>
        <span>Version</span>
        <span>Weight</span>
        <span>Verdict</span>
        <span>Evidence</span>
        <span class="r">Harmed</span>
        <span>Waits for</span>
        <span class="r">Age</span>
      </div>
      <div
        ref={box}
        class="rows"
        style={{ maxHeight: rows.length * row + 2 + 'px' }}
        tabIndex={-1}
        aria-busy={!loaded}
        onScroll={(e) => {
          const el = e.currentTarget;
          kept.top = el.scrollTop;
          setAt({ top: el.scrollTop, height: el.clientHeight });
        }}
        onKeyDown={(e) => {
          const i = Number((e.target as HTMLElement).dataset?.i ?? NaN);
          if (Number.isNaN(i)) return;
          const step = table({ ArrowDown: 1, ArrowUp: -1, j: 1, k: -1, PageDown: 10, PageUp: -10 });
          const d = step[e.key];
          if (e.key === 'Home' || e.key === 'End' || d !== undefined) {
            e.preventDefault();
            go(e.key === 'Home' ? 0 : e.key === 'End' ? rows.length - 1 : Math.max(0, Math.min(rows.length - 1, i + d!)));
          }
        }}
      >
        <ul style={{ height: rows.length * row + 'px' }}>
          {rows.slice(from, to).map((s, k) => (
            <li key={refKey(s)} style={{ transform: `translateY(${(from + k) * row}px)`, height: row + 'px' }} aria-setsize={rows.length} aria-posinset={from + k + 1}>
              <Row s={s} i={from + k} now={now} />
            </li>
          ))}
        </ul>
      </div>
    </>
  );
}

const verdictWords = table({ Pass: 'does well', Fail: 'worse', Undecided: 'not sure yet', Unavailable: 'no data' });

function Row({ s, i, now }: { s: Summary; i: number; now: number }) {
  const t = summaryTone(s);
  const moving = s.phase !== 'Idle';
  const judged = moving && s.phase !== 'Preparing' && s.phase !== 'RollingBack';
  const nodata = s.needs?.includes('noData') ?? false;
  const needs = s.needs ?? [];
  const asks = needs.includes('approval') ? 'needs approval' : needs.includes('fighting') ? 'fighting' : needs.includes('failing') || !needs.includes('person') ? '' : moving ? 'paused' : '';
  const word = asks ? asks : s.phase === 'RollingBack' ? 'going back' : s.phase === 'Preparing' ? 'preparing' : moving ? (nodata ? 'no data' : s.verdict === 'Unavailable' ? 'begins' : (verdictWords[s.verdict] ?? '')) : s.last && t === 'back' ? resultWords(s.last) : 'at rest';
  const age = s.since ? span((now - Date.parse(s.since)) / 1000) : '';
  return (
    <a class={'row t-' + t + (moving ? ' moving' : '')} href={hashOf(s)} data-i={i}>
      <span class="c-glyph">
        <Glyph tone={t} size={20} name={toneWords[t]} />
      </span>
      <span class="c-name">
        <b>{s.name}</b>
        {s.namespace && <span class="muted"> {s.namespace}</span>}
      </span>
      <span class="c-version num">
        <Mark arm="stable" /> {s.stable ?? '–'}
        {moving && s.canary && (
          <>
            <span class="muted"> → </span>
            <Mark arm="canary" /> {s.canary}
          </>
        )}
      </span>
      <span class="c-weight">
        {moving ? (
          <>
            <Spark values={s.spark ?? []} />
            <span class="num">{weight(s.set)}</span>
          </>
        ) : (
          <span class="muted">–</span>
        )}
      </span>
      <span class="c-verdict">
        <span class={'verdict v-' + t + (t === 'nodata' ? ' hatched' : '')}>{word}</span>
      </span>
      <span class="c-evidence">
        {judged && (
          <span class={'mini' + (nodata ? ' hatched' : '')} role="img" aria-label={nodata ? 'no evidence' : `evidence to take back ${Math.round(s.rollback * 100)} %, to go on ${Math.round(s.advance * 100)} %`}>
            {!nodata && <i class="gauge-back" style={{ width: s.rollback * 50 + '%' }} />}
            {!nodata && <i class="gauge-on" style={{ width: s.advance * 50 + '%' }} />}
            <i class="gauge-mid" />
          </span>
        )}
      </span>
      <span class="c-harmed num r">{s.exposed > 0 ? (s.harmed > 0 ? '≈ ' + about(s.harmed) : '0') : ''}</span>
      <span class="c-waits">
        {moving && s.waiting ? (
          <>
            {waitWords(s.waiting)}
            {s.until && (
              <>
                {' · '}
                <Countdown until={s.until} now={now} />
              </>
            )}
          </>
        ) : (
          <span class="muted why">{s.why ?? ''}</span>
        )}
      </span>
      <span class="c-age num r muted">{age}</span>
    </a>
  );
}

/** The canary's weight since the release began. */
function Spark({ values }: { values: number[] }) {
  const w = 64;
  const h = 20;
  if (values.length < 2) return <svg width={w} height={h} aria-hidden />;
  const dx = w / values.length;
  let d = `M0 ${h - 1}`;
  values.forEach((v, i) => {
    const y = (h - 2 - (v / 100) * (h - 4)).toFixed(1);
    d += `V${y}H${((i + 1) * dx).toFixed(1)}`;
  });
  return (
    <svg class="spark" width={w} height={h} viewBox={`0 0 ${w} ${h}`} aria-hidden>
      <path d={d + `V${h - 1}Z`} class="spark-area" />
      <path d={d.replace(/^M0 \d+V([\d.]+)/, 'M0 $1')} class="spark-line" />
    </svg>
  );
}
