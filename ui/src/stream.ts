// The event stream: read with fetch rather than EventSource, because a status
// code (signed out, forbidden) must be told from a broken line, and because a
// line that has gone silent must be noticed.

export interface Message {
  id: string;
  event: string;
  data: string;
}

/** Splits a stream's text into messages; what is not complete waits for more. */
export class Parser {
  private rest = '';

  push(text: string): Message[] {
    const out: Message[] = [];
    const blocks = (this.rest + text).split('\n\n');
    this.rest = blocks.pop() ?? '';
    for (const block of blocks) {
      const m: Message = { id: '', event: 'message', data: '' };
      for (const line of block.split('\n')) {
        if (line.startsWith(':')) continue;
        const at = line.indexOf(': ');
        const key = at < 0 ? line : line.slice(0, at);
        const value = at < 0 ? '' : line.slice(at + 2);
        if (key === 'id') m.id = value;
        else if (key === 'event') m.event = value;
        else if (key === 'data') m.data = value;
      }
      if (m.data !== '') out.push(m);
    }
    return out;
  }
}

export type Line =
  | { state: 'connecting' }
  | { state: 'live' }
  | { state: 'lost'; since: number; retryAt: number }
  | { state: 'refused'; status: number; why: string };

export interface Options {
  url: string;
  after?: string; // the event id to go on after
  onMessages(ms: Message[]): void;
  onLine(l: Line): void;
  /** called when a connection stands again after one that was lost */
  onBack?(): void;
  fetch?: typeof fetch;
}

const SILENCE = 40_000; // the server says something every 15 s
// A page that nobody has seen for so long gives its connection back: a browser
// has six for a server, and forgotten tabs would use them up.
const UNSEEN = 300_000;

/** Wait before the nth try, in ms: soon at first, never longer than 10 s. */
export function backoff(n: number): number {
  return Math.min(10_000, 250 * 2 ** Math.min(n, 10));
}

/** Follows a stream until it is closed. It goes on after the last event that it gave. */
export function follow(o: Options): { close(): void } {
  const get = o.fetch ?? fetch;
  let last = o.after ?? '';
  let closed = false;
  let tries = 0;
  let lostAt = 0;
  let timer: ReturnType<typeof setTimeout> | undefined;
  let run = 0;
  let asleep = false;
  let sleep: ReturnType<typeof setTimeout> | undefined;
  let abort = new AbortController();

  const lose = () => {
    if (closed) return;
    if (!lostAt) lostAt = Date.now();
    if (asleep) return;
    const wait = backoff(tries++);
    // The server ends a stream every few minutes, to look anew at who reads it:
    // that is no loss unless the next try fails too.
    if (tries > 1) o.onLine({ state: 'lost', since: lostAt, retryAt: Date.now() + wait });
    timer = setTimeout(connect, wait);
  };

  const connect = async () => {
    const mine = ++run; // of several, the newest counts
    abort.abort();
    abort = new AbortController();
    const signal = abort.signal;
    const stop = abort;
    let watchdog: ReturnType<typeof setTimeout> | undefined;
    const alive = () => {
      clearTimeout(watchdog);
      watchdog = setTimeout(() => stop.abort(), SILENCE);
    };
    try {
      alive();
      const resp = await get(o.url, {
        headers: last ? { 'Last-Event-ID': last } : {},
        signal,
        cache: 'no-store',
      });
      if (!resp.ok || !resp.body) {
        if (resp.status === 401 || resp.status === 403 || resp.status === 404) {
          closed = true;
          o.onLine({ state: 'refused', status: resp.status, why: await sentence(resp) });
          return;
        }
        throw new Error(`status ${resp.status}`);
      }
      const was = lostAt;
      tries = 0;
      lostAt = 0;
      o.onLine({ state: 'live' });
      if (was) o.onBack?.();
      const reader = resp.body.pipeThrough(new TextDecoderStream()).getReader();
      const parser = new Parser();
      for (;;) {
        const { done, value } = await reader.read();
        if (done || mine !== run) break;
        alive();
        const ms = parser.push(value);
        if (ms.length === 0) continue;
        o.onMessages(ms);
        last = ms[ms.length - 1]!.id || last; // only once it was taken
      }
    } catch {
      // told below
    } finally {
      clearTimeout(watchdog);
    }
    if (mine === run) lose();
  };

  o.onLine({ state: 'connecting' });
  void connect();
  const wake = () => {
    clearTimeout(sleep);
    if (closed) return;
    if (document.visibilityState !== 'visible') {
      sleep = setTimeout(() => {
        asleep = true;
        abort.abort();
      }, UNSEEN);
      return;
    }
    if (!asleep && !lostAt) return;
    asleep = false;
    clearTimeout(timer);
    tries = 0;
    void connect();
  };
  if (typeof document !== 'undefined') document.addEventListener('visibilitychange', wake);
  return {
    close() {
      closed = true;
      clearTimeout(timer);
      clearTimeout(sleep);
      abort.abort();
      if (typeof document !== 'undefined') document.removeEventListener('visibilitychange', wake);
    },
  };
}

export async function sentence(resp: Response): Promise<string> {
  try {
    const b = (await resp.json()) as { error?: string; problems?: string[] };
    return [b.error, ...(b.problems ?? [])].filter(Boolean).join(': ') || `status ${resp.status}`;
  } catch {
    return `status ${resp.status}`;
  }
}
