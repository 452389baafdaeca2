import type { ComponentChildren } from 'preact';
import { useEffect, useRef, useState } from 'preact/hooks';
import { serverNow } from './api';
import { count, countdown, difference, value } from './format';
import type { Figure } from './model';

/** The time, again each second while somebody looks. */
export function useNow(frozen?: number): number {
  const [now, set] = useState(() => frozen ?? serverNow());
  useEffect(() => {
    if (frozen !== undefined) return;
    const t = setInterval(() => set(serverNow()), 1000);
    return () => clearInterval(t);
  }, [frozen]);
  return frozen ?? now;
}

export function Countdown({ until, now }: { until: string; now: number }) {
  const left = (Date.parse(until) - now) / 1000;
  return (
    <span class="countdown num" role="timer">
      {left > 0 ? countdown(left) : 'any moment now'}
    </span>
  );
}

export function Panel({ title, aside, children, class: c, id }: { title: string; aside?: ComponentChildren; children: ComponentChildren; class?: string; id?: string }) {
  return (
    <section class={'panel ' + (c ?? '')} id={id} aria-label={title}>
      <header class="panel-head">
        <h2>{title}</h2>
        {aside}
      </header>
      {children}
    </section>
  );
}

/** How far the evidence has got, both ways from the middle. */
export function Gauge({ rollback, advance, nodata, toGo }: { rollback: number; advance: number; nodata: boolean; toGo?: number }) {
  const pc = (x: number) => Math.round(Math.min(1, Math.max(0, x)) * 100);
  const words = nodata ? 'No data: there is no evidence either way' : `Evidence to take it back ${pc(rollback)} %, to go on ${pc(advance)} %`;
  return (
    <div class="gauge-box">
      <div class={'gauge' + (nodata ? ' hatched' : '')} role="img" aria-label={words}>
        <i class="gauge-mid" />
        {!nodata && <i class="gauge-back" style={{ width: pc(rollback) / 2 + '%' }} />}
        {!nodata && <i class="gauge-on" style={{ width: pc(advance) / 2 + '%' }} />}
      </div>
      <div class="gauge-words" aria-hidden>
        <span>
          <b class="num">{nodata ? '–' : pc(rollback) + '\u00a0%'}</b> of what taking it back needs
        </span>
        <span>
          <b class="num">{nodata ? '–' : pc(advance) + '\u00a0%'}</b> of what going on needs
        </span>
      </div>
      {toGo !== undefined && !nodata && (
        <p class="to-go">
          about <span class="num">{count(toGo)}</span> more requests
        </p>
      )}
    </div>
  );
}

/** The difference between the versions: its 95 % band, nothing, and the limit. */
export function Interval({ f }: { f: Figure }) {
  const d = f.canary - f.stable;
  const band = f.low !== 0 || f.high !== 0;
  const lim = f.limit !== 0 && f.unit !== '' ? f.limit - f.stable : undefined;
  const reach = Math.max(Math.abs(d), band ? Math.abs(f.low) : 0, band ? Math.abs(f.high) : 0, band ? 0 : f.stable / 2, 1e-12);
  // A limit far away would squeeze the band to nothing: then it is off the scale.
  const near = lim !== undefined && Math.abs(lim) < reach * 4;
  const span = Math.max(reach, near ? Math.abs(lim!) : 0) * 1.15;
  const at = (x: number) => 50 + Math.max(-50, Math.min(50, (x / span) * 50));
  const words = band
    ? `Difference ${difference(d, f.unit)}, 95 % band ${difference(f.low, f.unit)} to ${difference(f.high, f.unit)}`
    : `Difference ${difference(d, f.unit)}`;
  return (
    <div class="interval">
      <div class={'interval-plot s-' + f.state} role="img" aria-label={words}>
        <i class="iv-axis" />
        <i class="iv-zero" />
        {band && <i class="iv-band" style={{ left: at(f.low) + '%', width: Math.max(0.8, at(f.high) - at(f.low)) + '%' }} />}
        <i class="iv-dot" style={{ left: at(d) + '%' }} />
        {near && <i class="iv-limit" style={{ left: at(lim!) + '%' }} />}
      </div>
      <div class="interval-words num">
        <span>{difference(d, f.unit)}</span>
        {band && (
          <span class="muted">
            95&nbsp;% {difference(f.low, f.unit)} … {difference(f.high, f.unit)}
          </span>
        )}
        {f.limit !== 0 && <span class="muted">limit {value(f.limit, f.unit)}</span>}
      </div>
    </div>
  );
}

/** A sentence in which what stands between backquotes is a command. */
export function Said({ text }: { text: string }) {
  const parts = text.split('`');
  if (parts.length % 2 === 0) return <>{text}</>; // they do not pair
  return <>{parts.map((p, i) => (i % 2 ? <code key={i}>{p}</code> : p))}</>;
}

export function Copy({ text, label }: { text: string; label: string }) {
  const [done, set] = useState(false);
  const t = useRef<ReturnType<typeof setTimeout> | undefined>(undefined);
  useEffect(() => () => clearTimeout(t.current), []);
  return (
    <button
      type="button"
      class="btn small"
      onClick={async () => {
        try {
          await navigator.clipboard.writeText(text);
        } catch {
          const a = document.createElement('textarea');
          a.value = text;
          document.body.append(a);
          a.select();
          document.execCommand('copy');
          a.remove();
        }
        set(true);
        t.current = setTimeout(() => set(false), 1500);
      }}
    >
      {done ? 'Copied' : label}
    </button>
  );
}
