// The read model as the server gives it: internal/httpapi's RolloutView,
// Summary and Series. Numbers that are not known are null or absent.

export type Verdict = 'Pass' | 'Fail' | 'Undecided' | 'Unavailable';
export type Phase = 'Idle' | 'Preparing' | 'Progressing' | 'Promoting' | 'Baking' | 'RollingBack';
export type Verb = 'abort' | 'undo' | 'pause' | 'approve' | 'resume' | 'promote' | 'retry' | 'adopt';
export type Need = 'approval' | 'person' | 'failing' | 'noData' | 'fighting';
export type FigureState = 'ok' | 'pending' | 'firing' | 'noData' | 'both' | 'worse' | 'better';

export interface Ref {
  namespace?: string;
  name: string;
}

export interface Figure {
  metric: string;
  unit: string; // "share" | "ms" | "cores" | "bytes" | ""
  canary: number;
  stable: number;
  canaryN: number;
  stableN: number;
  low: number; // 95 % band of the difference
  high: number;
  limit: number; // 0: none
  window: number; // nanoseconds
  state: FigureState | string;
}

export interface Version {
  revision: string;
  version: string;
  name: string;
  replicas: number;
  ready: number | null;
  why?: string;
  weight: number; // 1/10000
  requests?: number;
}

export interface Step {
  kind: 'weight' | 'match' | 'approval' | 'pause' | 'test' | string;
  text: string;
  weight?: number;
  state: 'done' | 'current' | 'ahead' | string;
  by?: string[];
  approved?: string;
}

export interface Finding {
  level: 'Refuse' | 'Wait' | 'Warn' | string;
  what: string;
  remedy?: string;
}

export interface Decision {
  n: number;
  at: string;
  by: string;
  what: string;
  from?: string;
  to?: string;
  why: string;
  figures?: Figure[];
  revision?: string;
}

export interface Outcome {
  revision: string;
  from: string;
  result: string;
  why?: string;
  by: string;
  started: string;
  ended: string;
  exposed: number;
  harmed: number;
}

export interface Drift {
  manager: string;
  split?: string;
  foreign: boolean;
  flips: number;
  fighting: boolean;
  remedy?: string;
}

export interface Offer {
  verb: Verb;
  full?: boolean;
  effect: string;
}

export interface View extends Ref {
  time: string;
  phase: Phase;
  message: string;
  step: number;
  steps: number;
  stepsList?: Step[];
  stable?: Version;
  canary?: Version;
  previous?: string;
  weightSet: number;
  weightSeen: number | null;
  live: boolean;
  verdict: Verdict;
  evidence: { rollback: number; advance: number };
  sentence?: string;
  figures?: Figure[];
  exposed: number;
  harmed: number;
  worst?: number;
  waiting?: string;
  until?: string;
  paused?: string;
  stalled?: string;
  started?: string;
  findings?: Finding[];
  decisions?: Decision[];
  history?: Outcome[];
  condemned?: string[];
  drift?: Drift;
  offers?: Offer[];
  n: number;
  exit: number;
}

export interface Summary extends Ref {
  phase: Phase;
  step: number;
  steps: number;
  stable?: string;
  canary?: string;
  set: number;
  seen?: number;
  verdict: Verdict | '';
  advance: number;
  rollback: number;
  exposed: number;
  harmed: number;
  waiting?: string;
  until?: string;
  since?: string;
  last?: string;
  why?: string;
  needs?: Need[];
  spark?: number[];
}

export interface MetricSeries {
  metric: string;
  unit: string;
  canary: (number | null)[];
  stable: (number | null)[];
  low: (number | null)[];
  high: (number | null)[];
  limit: (number | null)[];
  state: string; // a letter for each instant
}

export interface Series {
  t: number[];
  set: (number | null)[];
  seen: (number | null)[];
  rollback: (number | null)[];
  advance: (number | null)[];
  exposed: (number | null)[];
  harmed: (number | null)[];
  verdict: string; // a letter for each instant
  metrics: MetricSeries[];
  sparse?: number; // what comes before this instant is what decisions tell, and no more
}

export interface Who {
  name: string;
  look: boolean;
  may?: Verb[];
  version: string;
  now: string;
}

export interface Answer {
  id: string;
  refused?: boolean;
  message: string;
}

export interface Frozen {
  view: View;
  series: Series;
  version: string;
}

export const refKey = (r: Ref): string => (r.namespace ? `${r.namespace}/${r.name}` : r.name);
