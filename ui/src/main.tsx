import { render } from 'preact';
import { useCallback, useEffect, useState } from 'preact/hooks';
import './style.css';
import * as api from './api';
import { Detail } from './Detail';
import { Logo } from './icons';
import { List } from './List';
import type { Frozen, Ref } from './model';
import type { Line } from './stream';

type Theme = 'auto' | 'light' | 'dark';

/** Where the address leads to. */
export type Place = { list: true } | { list: false; target: Ref; at?: string };

function placeOf(hash: string): Place {
  const [path = '', query = ''] = hash.replace(/^#/, '').split('?');
  const m = /^\/r\/([^/]+)\/([^/]+)$/.exec(path);
  if (!m) return { list: true };
  try {
    const ns = decodeURIComponent(m[1]!);
    const at = new URLSearchParams(query).get('at') ?? undefined;
    return { list: false, target: { namespace: ns === '-' ? undefined : ns, name: decodeURIComponent(m[2]!) }, at };
  } catch {
    return { list: true };
  }
}

function readTheme(): Theme {
  try {
    const t = localStorage.getItem('serin-theme');
    return t === 'light' || t === 'dark' ? t : 'auto';
  } catch {
    return 'auto';
  }
}

const dark = matchMedia('(prefers-color-scheme: dark)');

function useTheme(): [string, Theme, (t: Theme) => void] {
  const [theme, set] = useState(readTheme);
  const [system, setSystem] = useState(dark.matches);
  useEffect(() => {
    const changed = () => setSystem(dark.matches);
    dark.addEventListener('change', changed);
    return () => dark.removeEventListener('change', changed);
  }, []);
  const used = theme === 'auto' ? (system ? 'dark' : 'light') : theme;
  document.documentElement.dataset.theme = used;
  const choose = (t: Theme) => {
    try {
      localStorage.setItem('serin-theme', t);
    } catch {
      // then it lasts as long as the page
    }
    set(t);
  };
  return [used, theme, choose];
}

function App({ frozen }: { frozen?: Frozen }) {
  const [place, setPlace] = useState(() => placeOf(location.hash));
  const [line, setLine] = useState<Line>({ state: 'connecting' });
  const [run, again] = useState(0);
  const [used, theme, choose] = useTheme();
  const [help, setHelp] = useState(false);

  useEffect(() => {
    const moved = () => {
      setPlace(placeOf(location.hash));
      setLine({ state: 'connecting' });
    };
    addEventListener('hashchange', moved);
    return () => removeEventListener('hashchange', moved);
  }, []);
  useEffect(() => {
    const key = (e: KeyboardEvent) => {
      const el = e.target as HTMLElement;
      if (el.closest?.('input, textarea, dialog') || e.ctrlKey || e.metaKey || e.altKey) return;
      if (e.key === '?') setHelp((h) => !h);
      if (e.key === 'Escape') setHelp(false);
      if (e.key === 'u' && !place.list && !frozen) location.hash = '#/';
    };
    addEventListener('keydown', key);
    return () => removeEventListener('keydown', key);
  }, [place]);
  const title = useCallback((t: string) => {
    document.title = t;
  }, []);

  if (line.state === 'refused' && line.status === 401) {
    return <SignIn onDone={() => (setLine({ state: 'connecting' }), again((n) => n + 1))} />;
  }
  return (
    <>
      <a class="skip" href="#content" onClick={(e) => (e.preventDefault(), document.querySelector<HTMLElement>('main h1')?.focus())}>
        To the content
      </a>
      <header class="bar">
        {frozen ? (
          <span class="brand">
            <Logo /> Serin
          </span>
        ) : (
          <a class="brand" href="#/">
            <Logo /> Serin
          </a>
        )}
        <span class="bar-space" />
        {frozen ? <span class="muted small-text">written by Serin {frozen.version}</span> : <State line={line} frozen={!place.list && !!place.at} />}
        <button
          type="button"
          class="btn icon"
          aria-label={`Colours: ${theme === 'auto' ? 'as the system' : theme}. Change`}
          title={`Colours: ${theme === 'auto' ? 'as the system' : theme}`}
          onClick={() => choose(theme === 'auto' ? (used === 'dark' ? 'light' : 'dark') : theme === 'dark' ? 'light' : 'dark')}
        >
          <svg width="18" height="18" viewBox="0 0 24 24" aria-hidden>
            <circle cx="12" cy="12" r="9" class="g-line" />
            <path d="M12 3a9 9 0 0 1 0 18z" class="g-solid" />
          </svg>
        </button>
        {!frozen && (
          <button type="button" class="btn icon" aria-label="Keys" title="Keys (?)" aria-expanded={help} onClick={() => setHelp(!help)}>
            ?
          </button>
        )}
      </header>
      {help && (
        <div class="help" role="note">
          <kbd>/</kbd> search · <kbd>↑</kbd> <kbd>↓</kbd> from row to row · <kbd>Enter</kbd> open · <kbd>u</kbd> back to the list · <kbd>Ctrl</kbd>+<kbd>Enter</kbd> send · <kbd>Esc</kbd> close
        </div>
      )}
      {!frozen && <Lost line={line} />}
      {frozen ? (
        <Detail target={frozen.view} frozen={frozen} theme={used} onLine={setLine} onTitle={title} />
      ) : place.list ? (
        <List key={run} onLine={setLine} onTitle={title} />
      ) : (
        <Detail key={run + (place.at ?? '')} target={place.target} at={place.at} theme={used} onLine={setLine} onTitle={title} />
      )}
    </>
  );
}

function State({ line, frozen }: { line: Line; frozen: boolean }) {
  if (frozen) return <span class="line">frozen</span>;
  const text = { connecting: 'connecting', live: 'live', lost: 'connection lost', refused: 'refused' }[line.state];
  return (
    <span class={'line l-' + line.state} role="status">
      <i /> {text}
    </span>
  );
}

function Lost({ line }: { line: Line }) {
  const [now, tick] = useState(Date.now());
  useEffect(() => {
    if (line.state !== 'lost') return;
    const t = setInterval(() => tick(Date.now()), 500);
    return () => clearInterval(t);
  }, [line]);
  if (line.state !== 'lost') return null;
  const left = Math.max(0, Math.ceil((line.retryAt - now) / 1000));
  return (
    <div class="lost" role="alert">
      <b>The connection is lost.</b> What you see is from {new Date(line.since).toLocaleTimeString(undefined, { hour12: false })} and may be out of date. {left > 0 ? `Next try in ${left} s.` : 'Trying…'}
    </div>
  );
}

function SignIn({ onDone }: { onDone(): void }) {
  const [token, setToken] = useState('');
  const [wrong, setWrong] = useState('');
  useEffect(() => {
    document.title = 'Sign in · Serin';
  }, []);
  return (
    <main class="signin">
      <form
        onSubmit={async (e) => {
          e.preventDefault();
          try {
            await api.signIn(token);
            onDone();
          } catch (x) {
            setWrong(x instanceof Error ? x.message : String(x));
          }
        }}
      >
        <Logo />
        <h1>Who looks?</h1>
        <p class="muted">
          <code>serin dashboard</code> prints the address that lets you in. Or paste a token: on one machine the one in that address, in a cluster your bearer token.
        </p>
        <label for="token">Token</label>
        <input id="token" type="password" autocomplete="off" autofocus value={token} onInput={(e) => setToken(e.currentTarget.value)} />
        {wrong && (
          <p class="wrong" role="alert">
            {wrong}
          </p>
        )}
        <button type="submit" class="btn primary" disabled={!token.trim()}>
          Sign in
        </button>
      </form>
    </main>
  );
}

const data = document.getElementById('frozen')?.textContent;
render(<App frozen={data ? (JSON.parse(data) as Frozen) : undefined} />, document.getElementById('app')!);
