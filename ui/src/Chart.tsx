import { useEffect, useLayoutEffect, useRef } from 'preact/hooks';
import uPlot from 'uplot';
import 'uplot/dist/uPlot.min.css';
import { alone } from './series';

export interface Flag {
  t: number;
  n: number;
  text: string;
  tone: 'good' | 'bad' | 'plain';
}

export interface Line {
  label: string;
  values: (number | null)[];
  color: string; // name of a CSS variable
  width?: number;
  dash?: number[];
  stepped?: boolean;
  points?: boolean; // dots and no line
}

export interface Props {
  label: string; // for who cannot see it
  t: number[];
  lines: Line[];
  band?: { low: (number | null)[]; high: (number | null)[]; color: string };
  gaps?: [number, number][]; // hatched: no data
  flags?: Flag[];
  numbered?: boolean; // flags have their number above
  from: number;
  to: number;
  max?: number; // of the y axis
  least: number; // of the y axis, where everything is 0
  fixed?: boolean; // exactly 0 to max
  format(y: number): string;
  height: number;
  sync: string;
  onCursor?(i: number | null): void;
  onFlag?(n: number): void;
  theme: string; // drawn anew when it changes
}

const css = (name: string): string => getComputedStyle(document.documentElement).getPropertyValue(name).trim();

function hatch(ink: string): CanvasPattern | string {
  const c = document.createElement('canvas');
  const r = Math.max(1, Math.round(devicePixelRatio));
  c.width = c.height = 8 * r;
  const x = c.getContext('2d')!;
  x.strokeStyle = ink;
  x.lineWidth = 1.4 * r;
  for (const d of [-8, 0, 8]) {
    x.beginPath();
    x.moveTo(d * r - r, 9 * r);
    x.lineTo(d * r + 9 * r, -r);
    x.stroke();
  }
  return x.createPattern(c, 'repeat') ?? ink;
}

const clock = (t: number, seconds: boolean): string =>
  new Date(t * 1000).toLocaleTimeString(undefined, { hour: '2-digit', minute: '2-digit', second: seconds ? '2-digit' : undefined, hour12: false });

/** One chart. Whatever is drawn is drawn on one y axis: two versions never have two scales. */
export function Chart(p: Props) {
  const host = useRef<HTMLDivElement>(null);
  const flagHost = useRef<HTMLDivElement>(null);
  const plot = useRef<uPlot | undefined>(undefined);
  const now = useRef(p);
  now.current = p;

  const shape = p.lines.map((l) => l.label + l.color + (l.stepped ? 's' : '') + (l.points ? 'p' : '')).join('|') + (p.band ? 'b' : '') + p.theme + p.height;

  useLayoutEffect(() => {
    const el = host.current!;
    const axis = css('--muted');
    const grid = css('--grid');
    const font = '11px ' + css('--font');
    const series: uPlot.Series[] = [{}];
    for (const l of p.lines) {
      const ink = css(l.color);
      series.push({
        stroke: l.points ? undefined : ink,
        width: l.width ?? 2,
        dash: l.dash,
        paths: l.points ? () => null : l.stepped ? uPlot.paths.stepped!({ align: 1 }) : undefined,
        points: {
          show: l.points === true,
          size: l.points ? 4.5 : 6,
          fill: ink,
          stroke: ink,
          width: 0,
          ...(l.points || l.stepped || l.dash ? {} : { filter: (u: uPlot, k: number) => alone(u.data[k]!, ...(u.series[0]!.idxs ?? [0, -1])) }),
        },
        spanGaps: false,
      });
    }
    let bands: uPlot.Band[] | undefined;
    if (p.band) {
      const n = series.length;
      series.push({ stroke: undefined, width: 0, points: { show: false }, paths: uPlot.paths.linear!() }, { stroke: undefined, width: 0, points: { show: false }, paths: uPlot.paths.linear!() });
      bands = [{ series: [n + 1, n], fill: css(p.band.color) }];
    }
    const u = new uPlot(
      {
        width: Math.max(200, el.clientWidth),
        height: p.height,
        legend: { show: false },
        padding: [p.numbered ? 22 : 8, 26, 0, 0],
        cursor: { sync: { key: p.sync }, y: false, points: { size: 7 }, drag: { x: false, y: false } },
        series,
        bands,
        scales: {
          x: { time: true, range: () => [now.current.from, now.current.to] },
          y: {
            range: () => {
              const q = now.current;
              if (q.fixed) return [0, q.max ?? 1];
              return [0, q.max ? q.max * 1.12 : q.least];
            },
          },
        },
        axes: [
          {
            stroke: axis,
            font,
            size: 24,
            gap: 4,
            space: 80,
            grid: { show: false },
            ticks: { stroke: grid, size: 4 },
            values: (_u, splits) => splits.map((s) => clock(s, now.current.to - now.current.from < 1200)),
          },
          {
            stroke: axis,
            font,
            size: 58,
            gap: 6,
            space: 28,
            grid: { stroke: grid, width: 1 },
            ticks: { show: false },
            values: (_u, splits) => splits.map((s) => now.current.format(s)),
          },
        ],
        hooks: {
          drawClear: [
            (u) => {
              const q = now.current;
              const { ctx, bbox } = u;
              ctx.save();
              ctx.beginPath();
              ctx.rect(bbox.left, bbox.top, bbox.width, bbox.height);
              ctx.clip();
              if (q.gaps?.length) {
                ctx.fillStyle = hatch(css('--hatch'));
                for (const [a, b] of q.gaps) {
                  const x0 = u.valToPos(a, 'x', true);
                  ctx.fillRect(x0, bbox.top, Math.max(2, u.valToPos(b, 'x', true) - x0), bbox.height);
                }
              }
              ctx.lineWidth = Math.max(1, Math.round(devicePixelRatio));
              ctx.setLineDash([3 * devicePixelRatio, 3 * devicePixelRatio]);
              for (const f of q.flags ?? []) {
                if (f.t < q.from || f.t > q.to) continue;
                const x = Math.round(u.valToPos(f.t, 'x', true));
                ctx.strokeStyle = css(f.tone === 'bad' ? '--fail' : '--flag');
                ctx.beginPath();
                ctx.moveTo(x, bbox.top);
                ctx.lineTo(x, bbox.top + bbox.height);
                ctx.stroke();
              }
              ctx.restore();
            },
          ],
          draw: [(u) => placeFlags(u, flagHost.current, now.current)],
          setCursor: [(u) => now.current.onCursor?.(u.cursor.idx ?? null)],
        },
      },
      dataOf(p),
      el,
    );
    plot.current = u;
    const sized = new ResizeObserver(() => {
      if (el.clientWidth > 0 && el.clientWidth !== u.width) u.setSize({ width: el.clientWidth, height: p.height });
    });
    sized.observe(el);
    return () => {
      sized.disconnect();
      u.destroy();
      plot.current = undefined;
    };
  }, [shape]);

  useEffect(() => {
    plot.current?.setData(dataOf(p), true);
  });

  return (
    <div class="chart">
      <div ref={host} role="img" aria-label={p.label} />
      {p.numbered && <div ref={flagHost} class="flags" />}
    </div>
  );
}

function dataOf(p: Props): uPlot.AlignedData {
  const cols: (number | null)[][] = [p.t, ...p.lines.map((l) => l.values)] as (number | null)[][];
  if (p.band) cols.push(p.band.low, p.band.high);
  return cols as uPlot.AlignedData;
}

// Flags are buttons above the plot. Of those that would cover each other the
// one that matters more stays: the timeline has them all.
function placeFlags(u: uPlot, host: HTMLDivElement | null, p: Props): void {
  if (!host) return;
  const r = devicePixelRatio || 1;
  const weight = { bad: 0, good: 1, plain: 2 };
  const want: { f: Flag; x: number }[] = [];
  for (const f of [...(p.flags ?? [])].sort((a, b) => weight[a.tone] - weight[b.tone] || a.n - b.n)) {
    if (f.t < p.from || f.t > p.to) continue;
    const x = u.valToPos(f.t, 'x', true) / r;
    if (want.every((o) => Math.abs(o.x - x) >= 22)) want.push({ f, x });
  }
  want.sort((a, b) => a.x - b.x);
  while (host.children.length > want.length) host.lastElementChild!.remove();
  want.forEach(({ f, x }, i) => {
    let b = host.children[i] as HTMLButtonElement | undefined;
    if (!b) {
      b = document.createElement('button');
      b.type = 'button';
      host.append(b);
    }
    b.className = 'flag f-' + f.tone;
    b.textContent = String(f.n);
    b.setAttribute('aria-label', `Decision ${f.n}: ${f.text}`);
    b.title = f.text;
    b.style.left = x + 'px';
    b.onclick = () => p.onFlag?.(f.n);
  });
}
