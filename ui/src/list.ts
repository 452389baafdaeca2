// The list's order, filters and search. Pure.

import type { Need, Summary } from './model';
import { refKey } from './model';

export type Filter = 'all' | 'approval' | 'failing' | 'noData' | 'fighting' | 'active';

export const filters: { id: Filter; text: string }[] = [
  { id: 'all', text: 'All' },
  { id: 'active', text: 'Under way' },
  { id: 'approval', text: 'Needs approval' },
  { id: 'failing', text: 'Failing' },
  { id: 'noData', text: 'No data' },
  { id: 'fighting', text: 'Fighting' },
];

/** Who needs somebody comes first; smaller is earlier. */
export function rank(s: Summary): number {
  const needs = (n: Need) => s.needs?.includes(n) ?? false;
  if (needs('approval')) return 0;
  if (needs('fighting')) return 1;
  if (needs('person')) return s.phase === 'Idle' ? 5 : 2;
  if (needs('failing')) return 3;
  if (needs('noData')) return 4;
  if (s.phase !== 'Idle') return 6;
  if (s.last === 'rolledBack' || s.last === 'aborted') return 7;
  return 8;
}

export function matches(s: Summary, f: Filter): boolean {
  switch (f) {
    case 'all':
      return true;
    case 'active':
      return s.phase !== 'Idle';
    case 'approval':
      return !!s.needs?.some((n) => n === 'approval' || n === 'person');
  }
  return s.needs?.includes(f) ?? false;
}

/** Every word of the search must be in the name, the versions or the state. */
export function found(s: Summary, search: string): boolean {
  if (!search) return true;
  const text = `${refKey(s)} ${s.stable ?? ''} ${s.canary ?? ''} ${s.phase} ${s.verdict} ${s.waiting ?? ''} ${s.last ?? ''}`.toLowerCase();
  return search
    .toLowerCase()
    .split(/\s+/)
    .every((w) => text.includes(w));
}

export function arrange(all: Iterable<Summary>, f: Filter, search: string): Summary[] {
  const out: { s: Summary; r: number; k: string }[] = [];
  for (const s of all) if (matches(s, f) && found(s, search)) out.push({ s, r: rank(s), k: refKey(s) });
  out.sort((a, b) => a.r - b.r || (a.k < b.k ? -1 : a.k > b.k ? 1 : 0));
  return out.map((x) => x.s);
}

export function tally(all: Iterable<Summary>): Record<Filter, number> {
  const n: Record<Filter, number> = { all: 0, active: 0, approval: 0, failing: 0, noData: 0, fighting: 0 };
  for (const s of all) for (const f of filters) if (matches(s, f.id)) n[f.id]++;
  return n;
}

/** The rows to draw: those in sight and some around them. */
export function visible(top: number, height: number, row: number, n: number, around = 8): { from: number; to: number } {
  const from = Math.max(0, Math.floor(top / row) - around);
  return { from: Math.min(from, n), to: Math.min(n, Math.ceil((top + height) / row) + around) };
}
