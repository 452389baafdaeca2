import type { Answer, Ref, Series, Summary, Verb, View, Who } from './model';
import { sentence } from './stream';

export const root = './_serin/v1';

/** An answer that is no success. */
export class Refused extends Error {
  constructor(
    readonly status: number,
    message: string,
  ) {
    super(message);
  }
}

let skew = 0;

/** The server's time, by its answers: countdowns are about its clock. Milliseconds. */
export const serverNow = (): number => Date.now() + skew;

function readClock(resp: Response): void {
  const d = Date.parse(resp.headers.get('Date') ?? '') - Date.now();
  if (Number.isFinite(d)) skew = Math.abs(d) > 3000 ? d : 0; // the header has whole seconds
}

async function ask<T>(path: string, init?: RequestInit): Promise<T> {
  let resp: Response;
  try {
    resp = await fetch(root + path, { cache: 'no-store', ...init });
  } catch {
    throw new Refused(0, 'Serin does not answer.');
  }
  readClock(resp);
  if (!resp.ok) throw new Refused(resp.status, await sentence(resp));
  return (await resp.json()) as T;
}

const query = (q: Record<string, string | undefined>): string => {
  const p = new URLSearchParams();
  for (const [k, v] of Object.entries(q)) if (v) p.set(k, v);
  const s = p.toString();
  return s ? '?' + s : '';
};

export const pathOf = (r: Ref, rest = '', more: Record<string, string | undefined> = {}): string =>
  `/rollouts/${encodeURIComponent(r.name)}${rest}${query({ namespace: r.namespace, ...more })}`;

export const eventsOf = (r: Ref): string => root + '/events' + query({ name: r.name, namespace: r.namespace });
export const briefEvents = root + '/events?briefs=true';

export const briefs = () => ask<{ cursor: string; rollouts: Summary[] }>('/briefs');
export const view = (r: Ref, at?: string) => ask<View>(pathOf(r, '', { at }));
export const series = (r: Ref, since?: number) =>
  ask<Series>(pathOf(r, '/series', { since: since ? new Date(since * 1000).toISOString() : undefined }));
export const who = (r?: Ref) => ask<Who>('/viewer' + query({ name: r?.name, namespace: r?.namespace }));
export const exportUrl = (r: Ref, at?: string): string => root + pathOf(r, '/export', { at });

export const signIn = (token: string) => ask<Who>('/session', post({ token }));

export const command = (r: Ref, c: { verb: Verb; full?: boolean; reason: string; n: number; revision?: string; id: string }) =>
  ask<Answer>(pathOf(r, '/commands'), post(c));

const post = (body: unknown): RequestInit => ({
  method: 'POST',
  headers: { 'Content-Type': 'application/json' },
  body: JSON.stringify(body),
});
