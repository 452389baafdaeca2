import { describe, expect, test } from 'vitest';
import { about, count, countdown, difference, headline, percent, span, stale, summaryTone, takenBack, troubled, value, waitWords, weight } from './format';
import { arrange, found, matches, rank, tally, visible } from './list';
import type { Series, Summary, View } from './model';
import * as past from './series';
import { backoff, follow, type Line, type Message, Parser } from './stream';

const line = (name: string, more: Partial<Summary> = {}): Summary => ({
  name, phase: 'Idle', step: 0, steps: 5, set: 0, verdict: '', advance: 0, rollback: 0, exposed: 0, harmed: 0, ...more,
});

describe('words', () => {
  test('numbers as people say them', () => {
    const plain = (s: string) => s.replace(/\u00a0/g, ' ');
    expect(plain(weight(500))).toBe('5 %');
    expect(plain(weight(50))).toBe('0.5 %');
    expect(plain(percent(0.0031))).toBe('0.31 %');
    expect(plain(percent(0))).toBe('0 %');
    expect(plain(percent(0.00004))).toBe('0.004 %');
    expect(plain(percent(0.25, 0))).toBe('25 %');
    expect(count(12480)).toBe('12,480');
    expect(count(999)).toBe('999');
    expect(about(2.14)).toBe('2.1');
    expect(plain(difference(0.0002, 'share'))).toBe('+0.02 pp');
    expect(plain(difference(-0.0015, 'share'))).toBe('\u22120.15 pp');
    expect(plain(difference(0, 'share'))).toBe('\u00b10 pp');
    expect(plain(difference(3, 'ms'))).toBe('+3 ms');
    expect(plain(value(1500, 'ms'))).toBe('1.5 s');
    expect(plain(value(0.05, 'cores'))).toBe('50 mCPU');
    expect(plain(value(81 * 1024 * 1024, 'bytes'))).toBe('81 MiB');
    expect(plain(span(41))).toBe('41 s');
    expect(plain(span(3900))).toBe('65 min');
    expect(plain(span(7500))).toBe('2 h 5 min');
    expect(countdown(42.2)).toBe('0:43');
    expect(countdown(7380)).toBe('2:03:00');
    expect(countdown(-5)).toBe('0:00');
  });
  test('names from outside find no words of the language', () => {
    for (const x of ['constructor', '__proto__', 'toString', 'hasOwnProperty']) expect(waitWords(x)).toBe(x);
  });
});

describe('verdict', () => {
  const v = (more: Partial<View>): View =>
    ({ name: 'app', time: '2026-01-01T00:00:00Z', phase: 'Progressing', message: 'm', step: 1, steps: 2, weightSet: 500, weightSeen: null, live: true, verdict: 'Undecided', evidence: { rollback: 0, advance: 0 }, exposed: 0, harmed: 0, n: 1, exit: 3,
      stable: { revision: 'v1@a', version: 'v1', name: '', replicas: 1, ready: 1, weight: 0 }, canary: { revision: 'v2@b', version: 'v2', name: '', replicas: 1, ready: 1, weight: 0 }, ...more }) as View;
  test('no data is never good news', () => {
    expect(headline(v({ verdict: 'Unavailable' }))).toMatch(/^No data/);
    expect(summaryTone(line('a', { phase: 'Progressing', verdict: 'Unavailable', needs: ['noData'] }))).toBe('nodata');
  });
  test('what is old is said to be', () => {
    const t = Date.parse('2026-01-01T00:00:00Z');
    expect(stale(v({}), t + 60_000)).toBeUndefined();
    expect(stale(v({}), t + 200_000)).toBe(200);
    expect(stale(v({ phase: 'Idle' }), t + 1e9)).toBeUndefined();
    expect(stale(v({ phase: 'Preparing' }), t + 1e9)).toBeUndefined(); // it says by what it waits how long that may be
  });
  test('something that speaks against it is not left out', () => {
    expect(headline(v({}))).toBe('So far nothing speaks against v2');
    expect(headline(v({ evidence: { rollback: 0.4, advance: 0 } }))).toMatch(/^Something speaks against v2/);
    expect(headline(v({ figures: [{ state: 'pending' } as never] }))).toMatch(/^Something speaks against v2/);
    expect(headline(v({ verdict: 'Fail', waiting: 'approval' }))).toBe('v2 is worse than v1');
  });
  test('taken back is said as long as it is asked for', () => {
    const o = { revision: 'v2@b', from: 'v1@a', result: 'rolledBack', by: 'rule', started: '', ended: '', exposed: 0, harmed: 0 };
    expect(takenBack(v({ phase: 'Idle', history: [o], condemned: ['v2@b'] }))).toBe('v2');
    expect(takenBack(v({ phase: 'Idle', history: [o], condemned: [] }))).toBeUndefined();
    expect(takenBack(v({ phase: 'Idle', history: [o, { ...o, result: 'abandoned' }], condemned: ['v2@b'] }))).toBe('v2');
  });
});

describe('list', () => {
  const all = [
    line('z'), line('y', { phase: 'Progressing', verdict: 'Pass' }), line('x', { phase: 'Progressing', verdict: 'Unavailable', needs: ['noData'] }), line('w', { phase: 'RollingBack', needs: ['failing'] }),
    line('v', { phase: 'Progressing', needs: ['fighting'] }), line('u', { phase: 'Progressing', needs: ['approval'], namespace: 'shop' }), line('a'), line('t', { last: 'rolledBack' }),
  ];
  test('who needs somebody comes first, then by name', () => {
    expect(arrange(all, 'all', '').map((s) => s.name)).toEqual(['u', 'v', 'w', 'x', 'y', 't', 'a', 'z']);
  });
  test('filters and their tallies agree', () => {
    const n = tally(all);
    expect(n).toEqual({ all: 8, active: 5, approval: 1, failing: 1, noData: 1, fighting: 1 });
    for (const f of ['active', 'approval', 'failing', 'noData', 'fighting'] as const) expect(all.filter((s) => matches(s, f)).length).toBe(n[f]);
  });
  test('every word of a search is wanted', () => {
    expect(found(line('cart-api', { namespace: 'shop', canary: 'v2' }), 'SHOP v2')).toBe(true);
    expect(found(line('cart-api'), 'cart shop')).toBe(false);
  });
  test('a stalled rollout at rest comes after those that users meet now', () => {
    expect(rank(line('a', { needs: ['person'] }))).toBeGreaterThan(rank(line('b', { phase: 'Progressing', needs: ['failing'] })));
  });
  test('only what is in sight is drawn, wherever it is scrolled to', () => {
    for (const top of [0, 1, 51, 5000, 103_000, 1e9]) {
      const r = visible(top, 800, 52, 2000);
      expect(r.to - r.from).toBeLessThanOrEqual(34);
      expect(r.from).toBeGreaterThanOrEqual(0);
      expect(r.to).toBeLessThanOrEqual(2000);
    }
    expect(visible(0, 800, 52, 3)).toEqual({ from: 0, to: 3 });
  });
});

describe('series', () => {
  const at = (s: number, more: Partial<View> = {}): View =>
    ({ time: new Date(s * 1000).toISOString(), phase: 'Progressing', weightSet: 500, weightSeen: 0.05, live: true, verdict: 'Undecided', evidence: { rollback: 0, advance: 0 }, exposed: s, harmed: 0,
      figures: [{ metric: 'errorRate', unit: 'share', canary: 0.1, stable: 0.2, low: -0.1, high: 0.1, limit: 0, state: 'ok', canaryN: 1, stableN: 1, window: 0 }], ...more }) as View;
  const whole = (s: Series) => {
    for (const m of s.metrics) for (const c of [m.canary, m.stable, m.low, m.high, m.limit, m.state]) expect(c.length).toBe(s.t.length);
    for (const c of [s.set, s.seen, s.rollback, s.advance, s.exposed, s.harmed, s.verdict]) expect(c.length).toBe(s.t.length);
    for (let i = 1; i < s.t.length; i++) expect(s.t[i]!).toBeGreaterThan(s.t[i - 1]!);
  };
  test('no data is no number', () => {
    const s = past.empty();
    past.append(s, at(1));
    past.append(s, at(2, { verdict: 'Unavailable', figures: [{ metric: 'errorRate', unit: 'share', state: 'noData', canary: 0, stable: 0 } as never] }));
    past.append(s, at(3, { figures: [] }));
    past.append(s, at(4, { figures: [{ metric: 'errorRate', unit: 'share', state: 'ok', canary: 0, canaryN: 0, stable: 0.2, stableN: 5 } as never] })); // nobody has asked it anything
    whole(s);
    expect(s.metrics[0]!.canary).toEqual([0.1, null, null, null]);
    expect(s.metrics[0]!.stable).toEqual([0.2, null, null, 0.2]);
    expect(s.metrics[0]!.state).toBe('on-o');
    expect(s.verdict).toBe('UNUU');
    expect(past.stretches(s.t, s.verdict, 'N')).toEqual([[1, 3]]);
  });
  test('what is not newer adds nothing, and rest is one instant', () => {
    const s = past.empty();
    expect(past.append(s, at(1, { phase: 'Idle' }))).toBe(false);
    past.append(s, at(10));
    expect(past.append(s, at(10))).toBe(false);
    expect(past.append(s, at(9))).toBe(false);
    expect(past.append(s, at(10.5))).toBe(false);
    expect(past.append(s, at(10.6, { weightSet: 2500 }))).toBe(true); // another weight is, however soon
    expect(past.append(s, at(11, { phase: 'Idle' }))).toBe(true);
    expect(past.append(s, at(12, { phase: 'Idle' }))).toBe(false);
    whole(s);
    expect(s.set).toEqual([0.05, 0.25, 0]);
  });
  test('how many more requests a step takes is told by what its own have shown', () => {
    const s = past.empty();
    for (const t of [1, 2, 3, 4, 5, 6]) past.append(s, at(t * 10, { exposed: t * 100 }));
    const step = (t: number, what = 'StepStarted') => ({ n: t, at: new Date(t * 1000).toISOString(), what }) as never;
    const v = (advance: number, more: Partial<View> = {}) => at(70, { exposed: 1000, evidence: { rollback: 0, advance }, decisions: [step(10), step(40, 'ApprovalRequested'), step(45, 'Paused')], ...more });
    expect(past.requestsToGo(s, v(0.25))).toBe(1800); // 400 when it began: 600 are a quarter
    expect(past.requestsToGo(s, v(0.61))).toBe(380);
    for (const x of [v(0.01), v(0.99), v(0.5, { verdict: 'Unavailable' }), v(0.5, { live: false }), v(0.5, { phase: 'Idle' }), v(0.5, { decisions: [step(33)] }), v(0.5, { decisions: [] }), v(0.5, { decisions: [step(71)] }), v(0.5, { exposed: 410 }), v(0.5, { figures: [{ state: 'pending' } as never] })])
      expect(past.requestsToGo(s, x)).toBeUndefined();
  });
  test('what stands alone is found, and what was kept of decisions alone is told on', () => {
    expect(past.alone([1, null, 2, 3, null, 4, undefined], 0, 6)).toEqual([0, 5]);
    expect(past.alone([], 0, -1)).toEqual([]);
    const a = past.empty();
    past.append(a, at(5));
    const b = { ...past.empty(), t: [1, 5], set: [0, 0.05], seen: [null, null], rollback: [null, null], advance: [null, null], exposed: [null, null], harmed: [null, null], verdict: '--', sparse: 5 };
    const s = past.join(a, b);
    whole(s);
    expect(s.sparse).toBe(5);
    expect(past.cut(past.join(s, a), 0, 9).sparse).toBe(5);
  });
  test('a release begins with itself', () => {
    const s = past.empty();
    for (const t of [8, 9, 10, 11]) past.append(s, at(t, { weightSet: t < 10 ? 10000 : 500 }));
    const r = past.release(s, 10, 11);
    whole(r);
    expect(r.t).toEqual([8, 9, 10, 11]);
    expect(r.set).toEqual([null, null, 0.05, 0.05]);
    expect(r.metrics[0]!.canary).toEqual([null, null, 0.1, 0.1]);
    expect([r.verdict, r.metrics[0]!.state]).toEqual(['--UU', '--oo']);
    expect(s.set).toEqual([1, 1, 0.05, 0.05]); // what is kept is not touched
  });
  test('after a gap the two parts are one, each instant once', () => {
    const a = past.empty();
    for (const t of [1, 2, 3, 4]) past.append(a, at(t));
    const b = past.empty();
    for (const t of [3, 4, 5, 6]) past.append(b, at(t, { figures: [{ metric: 'new', unit: '', canary: 1, stable: 1, low: 0, high: 0, limit: 0, state: 'ok' } as never] }));
    const s = past.join(a, b);
    whole(s);
    expect(s.t).toEqual([1, 2, 3, 4, 5, 6]);
    expect(s.metrics.map((m) => m.metric)).toEqual(['errorRate', 'new']);
    expect(s.metrics[0]!.canary).toEqual([0.1, 0.1, null, null, null, null]);
    expect(past.join(past.empty(), a).t).toEqual(a.t);
    expect(past.join(a, past.empty())).toBe(a);
    whole(past.cut(s, 2, 4));
  });
});

describe('stream', () => {
  test('messages are the same however the text is cut', () => {
    const text = ': serin\n\nid: a-1\nevent: rollout\ndata: {"x":1}\n\n: still here\n\nid: a-2\nevent: gone\ndata: {"name":"y"}\n\n';
    for (let size = 1; size < text.length; size++) {
      const p = new Parser();
      const out: Message[] = [];
      for (let i = 0; i < text.length; i += size) out.push(...p.push(text.slice(i, i + size)));
      expect(out).toEqual([
        { id: 'a-1', event: 'rollout', data: '{"x":1}' },
        { id: 'a-2', event: 'gone', data: '{"name":"y"}' },
      ]);
    }
  });
  test('tries come soon at first and never too seldom', () => {
    expect(backoff(0)).toBe(250);
    expect(backoff(50)).toBe(10_000);
  });
  test('it goes on after the last event that it gave, and says what it is told', async () => {
    const asked: string[] = [];
    const lines: Line[] = [];
    const got: string[] = [];
    let n = 0;
    const fake = (async (_url: string, init: RequestInit) => {
      asked.push((init.headers as Record<string, string>)['Last-Event-ID'] ?? '');
      n++;
      if (n === 2) throw new TypeError('network');
      if (n === 4) return new Response('{"error":"signed out"}', { status: 401 });
      return new Response(n === 1 ? 'id: a-7\nevent: rollout\ndata: 1\n\nid: a-8\nevent: rollout\ndata: 2\n' : 'id: a-8\nevent: rollout\ndata: 2\n\n');
    }) as typeof fetch;
    await new Promise<void>((done) => {
      follow({
        url: 'x', fetch: fake,
        onMessages: (ms) => got.push(...ms.map((m) => m.data)),
        onLine: (l) => {
          lines.push(l);
          if (l.state === 'refused') done();
        },
      });
    });
    expect(got).toEqual(['1', '2']); // what was cut off came again
    expect(asked).toEqual(['', 'a-7', 'a-7', 'a-8']);
    expect(lines.at(-1)).toEqual({ state: 'refused', status: 401, why: 'signed out' });
    expect(lines.some((l) => l.state === 'lost')).toBe(true);
  }, 60_000);
});

test('trouble of the host is told from what a rollout says', () => {
  expect(troubled({ message: 'Trouble since 12:00:40 UTC: saving the state: no space left. Step 2 of 3.' })).toBe(true);
  expect(troubled({ message: 'Step 2 of 3.' })).toBe(false);
});
