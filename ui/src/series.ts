// How a rollout went, kept up to date from the views of the stream. Pure.

import { table, uneasy } from './format';
import type { MetricSeries, Series, View } from './model';

const letters = table({ noData: 'n', ok: 'o', pending: 'p', firing: 'f', both: 'b', worse: 'w', better: '+' });
const verdicts = table({ Pass: 'P', Fail: 'F', Undecided: 'U', Unavailable: 'N' });

export const empty = (): Series => ({ t: [], set: [], seen: [], rollback: [], advance: [], exposed: [], harmed: [], verdict: '', metrics: [] });

const most = 12_000;

const columns = (m: MetricSeries) => [m.canary, m.stable, m.low, m.high, m.limit];

/** Adds a view's figures at its own time. What is not newer adds nothing. */
export function append(s: Series, v: View): boolean {
  const t = Date.parse(v.time) / 1000;
  const n = s.t.length;
  const idle = v.phase === 'Idle';
  const set = idle ? 0 : v.weightSet / 10000;
  const last = s.t[n - 1] ?? -Infinity;
  if (!(t > last + 0.9 || (t > last && set !== s.set[n - 1]))) return false;
  if (idle && (n === 0 || resting(s))) return false; // at rest, and that is known
  s.t.push(t);
  s.set.push(set);
  s.seen.push(idle ? null : v.weightSeen);
  s.rollback.push(v.evidence.rollback);
  s.advance.push(v.evidence.advance);
  s.exposed.push(v.exposed);
  s.harmed.push(v.harmed);
  s.verdict += idle || (v.verdict === 'Unavailable' && !v.live) ? '-' : (verdicts[v.verdict] ?? '-'); // not in force yet: nothing can be known
  const figures = idle ? [] : (v.figures ?? []);
  for (const f of figures) {
    if (s.metrics.some((m) => m.metric === f.metric && m.unit === f.unit)) continue;
    const gap = () => new Array<null>(n).fill(null);
    s.metrics.push({ metric: f.metric, unit: f.unit, canary: gap(), stable: gap(), low: gap(), high: gap(), limit: gap(), state: '-'.repeat(n) });
  }
  for (const m of s.metrics) {
    const f = figures.find((x) => x.metric === m.metric && x.unit === m.unit);
    const data = f && f.state !== 'noData';
    const of = m.unit === 'share' || m.unit === 'ms'; // of no request there is neither
    m.canary.push(data && !(of && f.canaryN === 0) ? f.canary : null);
    m.stable.push(data && !(of && f.stableN === 0) ? f.stable : null);
    const band = data && (f.low !== 0 || f.high !== 0);
    m.low.push(band ? f.low : null);
    m.high.push(band ? f.high : null);
    m.limit.push(data && f.limit !== 0 ? f.limit : null);
    m.state += f ? (letters[f.state] ?? '-') : '-';
  }
  if (s.t.length > most) drop(s, s.t.length - most);
  return true;
}

/** The newest point is that of a rollout at rest: nothing set, nothing seen, nothing judged. */
const resting = (s: Series): boolean => {
  const i = s.t.length - 1;
  return s.set[i] === 0 && s.seen[i] === null && s.verdict[i] === '-' && s.metrics.every((m) => m.state[i] === '-');
};

function drop(s: Series, k: number): void {
  for (const c of [s.t, s.set, s.seen, s.rollback, s.advance, s.exposed, s.harmed, ...s.metrics.flatMap(columns)]) c.splice(0, k);
  s.verdict = s.verdict.slice(k);
  for (const m of s.metrics) m.state = m.state.slice(k);
}

/** Joins what was there with what was fetched since: the fetched part wins where they overlap. */
export function join(old: Series, more: Series): Series {
  const first = more.t[0];
  if (first === undefined) return old;
  let k = old.t.length;
  while (k > 0 && (old.t[k - 1] ?? 0) >= first) k--;
  const n = more.t.length;
  const cat = <T>(a: T[], b: T[]): T[] => a.slice(0, k).concat(b);
  const out: Series = {
    t: cat(old.t, more.t),
    set: cat(old.set, more.set),
    seen: cat(old.seen, more.seen),
    rollback: cat(old.rollback, more.rollback),
    advance: cat(old.advance, more.advance),
    exposed: cat(old.exposed, more.exposed),
    harmed: cat(old.harmed, more.harmed),
    verdict: old.verdict.slice(0, k) + more.verdict,
    metrics: [],
    sparse: more.sparse ?? old.sparse,
  };
  const gap = (len: number) => new Array<null>(len).fill(null);
  const keys = new Map<string, [MetricSeries | undefined, MetricSeries | undefined]>();
  for (const m of old.metrics) keys.set(m.metric + '\n' + m.unit, [m, undefined]);
  for (const m of more.metrics) keys.set(m.metric + '\n' + m.unit, [keys.get(m.metric + '\n' + m.unit)?.[0], m]);
  for (const [a, b] of keys.values()) {
    const one = (a ?? b)!;
    const col = (pick: (m: MetricSeries) => (number | null)[]) => (a ? pick(a).slice(0, k) : gap(k)).concat(b ? pick(b) : gap(n));
    out.metrics.push({
      metric: one.metric,
      unit: one.unit,
      canary: col((m) => m.canary),
      stable: col((m) => m.stable),
      low: col((m) => m.low),
      high: col((m) => m.high),
      limit: col((m) => m.limit),
      state: (a ? a.state.slice(0, k) : '-'.repeat(k)) + (b ? b.state : '-'.repeat(n)),
    });
  }
  return out;
}

/** The part from one instant to another. */
export function cut(s: Series, from: number, to: number): Series {
  let i = 0;
  while (i < s.t.length && s.t[i]! < from) i++;
  let j = s.t.length;
  while (j > i && s.t[j - 1]! > to) j--;
  const c = <T>(a: T[]): T[] => a.slice(i, j);
  return {
    t: c(s.t), set: c(s.set), seen: c(s.seen), rollback: c(s.rollback), advance: c(s.advance), exposed: c(s.exposed), harmed: c(s.harmed),
    verdict: s.verdict.slice(i, j),
    metrics: s.metrics.map((m) => ({
      metric: m.metric, unit: m.unit, canary: c(m.canary), stable: c(m.stable), low: c(m.low), high: c(m.high), limit: c(m.limit), state: m.state.slice(i, j),
    })),
    sparse: s.sparse,
  };
}

/**
 * A release's part: what came shortly before it is another's, so it is there as
 * instants without values.
 */
export function release(s: Series, from: number, to: number): Series {
  const c = cut(s, from - 2, to);
  let k = 0;
  while (k < c.t.length && c.t[k]! < from - 0.01) k++;
  const nulls = new Array<null>(k).fill(null);
  const none = '-'.repeat(k);
  for (const col of [c.set, c.seen, c.rollback, c.advance, c.exposed, c.harmed, ...c.metrics.flatMap(columns)]) col.splice(0, k, ...nulls);
  c.verdict = none + c.verdict.slice(k);
  for (const m of c.metrics) m.state = none + m.state.slice(k);
  return c;
}

/** Values with nothing on either side: no line shows them. */
export function alone(values: ArrayLike<number | null | undefined>, from: number, to: number): number[] {
  const none = (i: number) => values[i] === null || values[i] === undefined;
  const out: number[] = [];
  for (let i = from; i <= to; i++) if (!none(i) && none(i - 1) && none(i + 1)) out.push(i);
  return out;
}

const begins = new Set(['StepStarted', 'BakeStarted', 'ApprovalRequested', 'TestStarted']);

/**
 * How many more requests of the canary going on will take, as far as those of
 * this step tell: what they have shown is about as much as they are many. To two
 * digits; nothing where something else than requests is waited for.
 */
export function requestsToGo(s: Series, v: View): number | undefined {
  const a = v.evidence.advance;
  if (v.phase === 'Idle' || v.verdict !== 'Undecided' || !v.live || uneasy(v.figures) || !(a >= 0.05 && a < 0.985)) return undefined;
  const d = [...(v.decisions ?? [])].reverse().find((x) => begins.has(x.what)); // the judge begins anew with each step
  const begun = d ? Date.parse(d.at) / 1000 : NaN;
  const i = s.t.findIndex((t) => t >= begun - 0.01);
  const before = s.exposed[i];
  if (before === undefined || before === null || s.t[i]! - begun > 5) return undefined; // its beginning was not seen
  const n = v.exposed - before;
  if (!(n >= 20)) return undefined;
  const x = (n * (1 - a)) / a;
  const unit = 10 ** Math.max(0, Math.floor(Math.log10(x)) - 1);
  return Math.max(1, Math.round(x / unit) * unit);
}

/** Stretches of time in which a column of letters says one of some, longer than a moment. */
export function stretches(t: number[], letter: string, which: string, moment = 0): [number, number][] {
  const out: [number, number][] = [];
  let begun = -1;
  for (let i = 0; i <= t.length; i++) {
    const is = i < t.length && which.includes(letter[i] ?? ' ');
    if (is && begun < 0) begun = i;
    if (!is && begun >= 0) {
      const a = t[Math.max(0, begun - 1)]!;
      const b = t[Math.min(i, t.length - 1)]!;
      if (b - a > moment) out.push([a, b]);
      begun = -1;
    }
  }
  return out;
}

/** Which stretch of time a view is about: its release, else the last one. */
export function period(v: View, s: Series, all: boolean): [number, number] {
  const now = Date.parse(v.time) / 1000;
  const first = s.t[0] ?? now - 60;
  const last = s.t[s.t.length - 1] ?? now;
  if (all) return [first, Math.max(last, first + 10)];
  if (v.phase !== 'Idle' && v.started) {
    const from = Date.parse(v.started) / 1000;
    return [from, Math.max(now, from + 30)];
  }
  const o = v.history?.[v.history.length - 1];
  if (o) {
    const from = Date.parse(o.started) / 1000;
    const to = Date.parse(o.ended) / 1000;
    if (to >= first) return [from, Math.max(to + 2, from + 10)];
  }
  return [first, Math.max(last, first + 10)];
}
