import type { JSX } from 'preact';
import type { Tone } from './format';

// Every state has a shape of its own, so that none is told by colour alone.

const paths: Record<Tone, JSX.Element> = {
  pass: (
    <>
      <circle cx="12" cy="12" r="10" class="g-fill" />
      <path d="M7 12.5l3.4 3.4L17 9" class="g-mark" />
    </>
  ),
  fail: (
    <>
      <path d="M8 2h8l6 6v8l-6 6H8l-6-6V8z" class="g-fill" />
      <path d="M8.5 8.5l7 7m0-7l-7 7" class="g-mark" />
    </>
  ),
  wait: (
    <>
      <circle cx="12" cy="12" r="9" class="g-line" />
      <path d="M12 6.5V12l3.6 2.2" class="g-line" />
    </>
  ),
  person: (
    <>
      <path d="M12 1.5L22.5 12 12 22.5 1.5 12z" class="g-fill" />
      <path d="M12 6.8v6.4M12 16.6v.4" class="g-mark" />
    </>
  ),
  nodata: (
    <>
      <rect x="2.5" y="2.5" width="19" height="19" rx="3" class="g-dash" />
      <path d="M6.5 17.5l11-11M3.5 12l8.5-8.5M12 20.5l8.5-8.5" class="g-thin" />
    </>
  ),
  rest: <circle cx="12" cy="12" r="6" class="g-fill" />,
  back: (
    <>
      <circle cx="12" cy="12" r="9.5" class="g-line" />
      <path d="M17 12H8m3.6-3.8L7.6 12l4 3.8" class="g-line" />
    </>
  ),
};

export const toneWords: Record<Tone, string> = {
  pass: 'does well',
  fail: 'failing',
  wait: 'under way',
  person: 'needs a person',
  nodata: 'no data',
  rest: 'at rest',
  back: 'taken back',
};

export function Glyph({ tone, size = 20, name }: { tone: Tone; size?: number; name?: string }) {
  return (
    <svg class={`glyph t-${tone}`} width={size} height={size} viewBox="0 0 24 24" role={name ? 'img' : undefined} aria-label={name} aria-hidden={name ? undefined : true}>
      {paths[tone]}
    </svg>
  );
}

/** The two versions' marks: a disc for stable, a triangle for canary. */
export function Mark({ arm }: { arm: 'stable' | 'canary' }) {
  return (
    <svg class={`mark m-${arm}`} width="11" height="11" viewBox="0 0 12 12" aria-hidden>
      {arm === 'stable' ? <circle cx="6" cy="6" r="5" /> : <path d="M6 .8L11.6 11H.4z" />}
    </svg>
  );
}

export function Logo() {
  return (
    <svg width="26" height="26" viewBox="0 0 32 32" aria-hidden class="logo">
      <rect width="32" height="32" rx="8" class="logo-ground" />
      <path d="M5 21h8v-5h6v-5h8" class="logo-line" />
      <circle cx="26" cy="11" r="4" class="logo-dot" />
    </svg>
  );
}
