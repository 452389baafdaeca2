// How numbers, times and decisions are said. Pure.

import type { Figure, Summary, View } from './model';

const nbsp = '\u00a0';

/** Words by name. Names come from outside: "constructor" must find nothing. */
export const table = <T>(words: Record<string, T>): Record<string, T | undefined> => Object.assign(Object.create(null), words);


/** 1/10000 as percent: 500 -> "5 %". */
export const weight = (w: number): string => trim(w / 100, 2) + nbsp + '%';

/** 0..1 as percent with as many places as it takes to tell it from 0. */
export function percent(x: number, places?: number): string {
  const p = x * 100;
  const d = places ?? (p === 0 ? 0 : Math.abs(p) >= 10 ? 1 : Math.abs(p) >= 0.1 ? 2 : 3);
  return trim(p, d) + nbsp + '%';
}

export function trim(x: number, places: number): string {
  const s = x.toFixed(places);
  return places > 0 ? s.replace(/\.?0+$/, '') : s;
}

/** 12480 -> "12,480". */
export const count = (x: number): string => Math.round(x).toString().replace(/\B(?=(\d{3})+(?!\d))/g, ',');

/** harmed requests: estimates below ten have a decimal. */
export const about = (x: number): string => (x === 0 ? '0' : x < 10 ? trim(x, 1) : count(x));

const minus = (s: string): string => s.replace(/^-/, '\u2212');

/** A metric's value with its unit. */
export function value(x: number, unit: string): string {
  switch (unit) {
    case 'share':
      return percent(x);
    case 'ms':
      return x >= 1000 ? trim(x / 1000, 2) + nbsp + 's' : trim(x, x < 10 ? 1 : 0) + nbsp + 'ms';
    case 'cores':
      return x < 1 ? trim(x * 1000, x < 0.01 ? 2 : 0) + nbsp + 'mCPU' : trim(x, 2) + nbsp + 'CPU';
    case 'bytes':
      return bytes(x);
  }
  return minus(Math.abs(x) >= 1000 ? count(x) : trim(x, Math.abs(x) < 1 ? 3 : 2));
}

function bytes(x: number): string {
  const units = ['B', 'KiB', 'MiB', 'GiB', 'TiB'];
  let i = 0;
  while (Math.abs(x) >= 1024 && i < units.length - 1) {
    x /= 1024;
    i++;
  }
  return trim(x, i === 0 || Math.abs(x) >= 100 ? 0 : 1) + nbsp + units[i];
}

/** A difference, with its sign; of shares in percentage points. */
export function difference(x: number, unit: string): string {
  const sign = x > 0 ? '+' : x < 0 ? '\u2212' : '\u00b1';
  const a = Math.abs(x);
  if (unit === 'share') return sign + trim(a * 100, a * 100 >= 10 ? 1 : a * 100 >= 0.1 ? 2 : 3) + nbsp + 'pp';
  return sign + value(a, unit).replace('\u2212', '');
}

/** Seconds as people say them: "41 s", "6 min", "1 h 5 min", "3 d". */
export function span(seconds: number): string {
  const s = Math.max(0, Math.round(seconds));
  if (s < 100) return s + nbsp + 's';
  const m = Math.floor(s / 60);
  if (m < 100) return m + nbsp + 'min';
  const h = Math.floor(m / 60);
  if (h < 48) return h + nbsp + 'h' + (m % 60 && h < 10 ? nbsp + (m % 60) + nbsp + 'min' : '');
  return Math.floor(h / 24) + nbsp + 'd';
}

/** A countdown: "0:42", "12:05", "2:03:00". */
export function countdown(seconds: number): string {
  const s = Math.max(0, Math.ceil(seconds));
  const two = (n: number) => n.toString().padStart(2, '0');
  const h = Math.floor(s / 3600);
  const m = Math.floor(s / 60) % 60;
  return (h > 0 ? h + ':' + two(m) : m.toString()) + ':' + two(s % 60);
}

export const clock = (iso: string | number): string =>
  new Date(iso).toLocaleTimeString(undefined, { hour: '2-digit', minute: '2-digit', second: '2-digit', hour12: false });

export const dateTime = (iso: string): string =>
  new Date(iso).toLocaleString(undefined, { month: 'short', day: 'numeric', hour: '2-digit', minute: '2-digit', second: '2-digit', hour12: false });

export const label = (revision: string): string => revision.split('@')[0] ?? revision;

const metricNames = table({ errorRate: 'Error rate', latency: 'Latency', cpu: 'CPU per request', memory: 'Memory per pod' });
export const metricName = (m: string): string => metricNames[m] ?? m;

export const stateWords = table({
  ok: 'within',
  pending: 'over the limit, not long enough yet',
  firing: 'over the limit',
  noData: 'no data',
  both: 'both versions break it',
  worse: 'worse',
  better: 'better',
});

const waits = table({
  hold: 'the hold of this step',
  evidence: 'evidence',
  data: 'data',
  traffic: 'the split to be seen in force',
  capacity: 'capacity',
  approval: 'approval',
  person: 'a person',
  test: 'a test',
  window: 'a closed window to open',
  leaving: 'the last requests to end',
  route: 'the route',
  preflight: 'something that preflight found',
});
export const waitWords = (w: string): string => waits[w] ?? w;

const whats = table({
  Adopted: 'Adopted',
  RolloutStarted: 'Release started',
  ScaleAsked: 'Replicas asked for',
  StepStarted: 'Step',
  BakeStarted: 'Bake',
  Promoted: 'Promoted',
  RolledBack: 'Taken back',
  Aborted: 'Aborted',
  Superseded: 'Superseded',
  Withdrawn: 'Withdrawn',
  TrafficBack: 'Traffic is back',
  Retired: 'Retired',
  Paused: 'Paused',
  Resumed: 'Resumed',
  ApprovalRequested: 'Approval asked for',
  Approved: 'Approved',
  TestStarted: 'Test started',
  TestPassed: 'Test passed',
  UndoStarted: 'Undo started',
  Undone: 'Undone',
  UndoAbandoned: 'Undo abandoned',
  RevertStarted: 'Revert started',
  Reverted: 'Reverted',
  RetryStarted: 'Retry',
  Overridden: 'Overridden',
  CommandRefused: 'Refused',
  DriftObeyed: 'A hand was obeyed',
  DriftUndone: 'A foreign write was undone',
  DriftFight: 'Somebody keeps writing the route',
  DriftLeft: 'A foreign write was left',
  StableChanged: 'The stable version changed',
  StableLost: 'The stable version was lost',
  Stalled: 'Stalled',
  StepsChanged: 'The steps changed',
  StateRebuilt: 'State rebuilt',
});
export const whatWords = (w: string): string => whats[w] ?? w;

const results = table({
  promoted: 'promoted',
  rolledBack: 'taken back',
  aborted: 'aborted',
  superseded: 'superseded',
  withdrawn: 'withdrawn',
  undone: 'undone',
  reverted: 'reverted',
  abandoned: 'abandoned',
});
export const resultWords = (r: string): string => results[r] ?? r;

const verbs = table({
  abort: 'Take back',
  undo: 'Undo',
  pause: 'Pause',
  approve: 'Approve',
  resume: 'Resume',
  promote: 'Promote',
  retry: 'Retry',
  adopt: 'Adopt',
});
export const verbWords = (v: string, full?: boolean): string => (v === 'promote' && full ? 'Promote to 100\u00a0%' : (verbs[v] ?? v));

export type Tone = 'pass' | 'fail' | 'wait' | 'nodata' | 'rest' | 'back' | 'person';

/** The host cannot do, or not record, what was decided: its message begins with that, and is shown wherever the rollout stands. */
export function troubled(v: Pick<View, 'message'>): boolean {
  return v.message.startsWith('Trouble since ');
}

/** What a rollout's state is in one look. */
export function tone(v: Pick<View, 'phase' | 'verdict' | 'waiting' | 'paused' | 'stalled' | 'live'> & Partial<Pick<View, 'time' | 'decisions'>>, takenBack: boolean): Tone {
  if (v.phase === 'RollingBack') return 'fail';
  if (v.phase === 'Idle') return v.stalled && !takenBack ? 'person' : takenBack ? 'back' : 'rest';
  if (v.verdict === 'Fail') return 'fail';
  if (v.waiting === 'approval' || v.waiting === 'person' || v.paused || v.stalled) return 'person';
  if (v.phase === 'Preparing') return 'wait';
  if (v.verdict === 'Unavailable') return v.live && !(v.time && justBegan({ time: v.time, decisions: v.decisions })) ? 'nodata' : 'wait';
  return v.verdict === 'Pass' ? 'pass' : 'wait';
}

export function summaryTone(s: Summary): Tone {
  if (s.needs?.includes('fighting') && !s.needs.includes('failing')) return 'person';
  return tone(
    { phase: s.phase, verdict: s.verdict || 'Unavailable', waiting: s.waiting, stalled: s.needs?.includes('person') ? 'x' : undefined, live: !!s.needs?.includes('noData') },
    s.phase === 'Idle' && (s.last === 'rolledBack' || s.last === 'aborted' || s.last === 'undone'),
  );
}

/** A step has just begun: that its first figures are not there yet says nothing. */
export function justBegan(v: Pick<View, 'time' | 'decisions'>): boolean {
  const ds = v.decisions ?? [];
  for (let i = ds.length - 1; i >= 0; i--) {
    const d = ds[i]!;
    if (d.what === 'StepStarted' || d.what === 'BakeStarted' || d.what === 'ApprovalRequested') return Date.parse(v.time) - Date.parse(d.at) < 10_000;
  }
  return false;
}

/** Which release ended badly and is still asked for. */
export function takenBack(v: View): string | undefined {
  for (const o of [...(v.history ?? [])].reverse()) {
    if (o.result === 'abandoned') continue;
    const left = o.result === 'undone' ? o.from : o.revision;
    return v.condemned?.includes(left) ? label(left) : undefined;
  }
  return undefined;
}

/** The verdict in some words. */
export function headline(v: View): string {
  const c = v.canary?.version ?? 'the new version';
  const s = v.stable?.version ?? 'stable';
  const back = takenBack(v);
  switch (v.phase) {
    case 'Idle':
      if (!v.stable) return 'No version is known to be the stable one';
      if (back) return `${back} was taken back`;
      if (v.stalled) return 'A person is needed';
      return `${s} has all the traffic`;
    case 'RollingBack':
      return `${c} is being taken back`;
    case 'Preparing':
      if (v.paused) return `Paused before ${c} gets any traffic`;
      return `${c} is getting ready`;
  }
  if (v.verdict === 'Fail') return `${c} is worse than ${s}`;
  if (v.waiting === 'approval') return `${c} waits for an approval`;
  if (v.paused) return `Paused at ${weight(v.weightSet)}`;
  if (v.stalled) return 'A person is needed';
  switch (v.verdict) {
    case 'Pass':
      return v.phase === 'Baking' ? `${c} holds up with all the traffic` : `${c} does as well as ${s}`;
    case 'Undecided':
      return v.phase === 'Baking' ? `${c} has all the traffic and is watched` : v.evidence.rollback >= 0.25 || uneasy(v.figures) ? `Something speaks against ${c}, not enough to say so yet` : `So far nothing speaks against ${c}`;
    case 'Unavailable':
      return v.live && !justBegan(v) ? `No data: nobody can say how ${c} does` : `${c} gets ${weight(v.weightSet)}; its figures are on their way`;
  }
  return v.message;
}

/**
 * How long ago a view was true, in seconds, where that is longer than a host
 * that is well lets pass while it judges: the line to whoever serves the page
 * stands, and nothing comes along it. Else undefined.
 */
export function stale(v: Pick<View, 'phase' | 'time'>, now: number): number | undefined {
  const age = (now - Date.parse(v.time)) / 1000;
  const judged = v.phase === 'Progressing' || v.phase === 'Promoting' || v.phase === 'Baking';
  return judged && age > 120 ? age : undefined;
}

/** "Nothing speaks against it" must be true: it is not, with a figure over its limit. */
export const uneasy = (fs: Figure[] | undefined): boolean => !!fs?.some((f) => f.state === 'pending' || f.state === 'worse' || f.state === 'firing');
