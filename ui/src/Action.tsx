import { useEffect, useRef, useState } from 'preact/hooks';
import { command, Refused } from './api';
import { verbWords } from './format';
import type { Offer, View } from './model';

const danger = (o: Offer) => o.verb === 'abort' || o.verb === 'undo';
const main = (o: Offer) => o.verb === 'approve' || o.verb === 'resume' || o.verb === 'retry' || (o.verb === 'promote' && !o.full);

/** The commands that the viewer may send now. Without a right there is no button. */
export function Actions({ offers, onPick }: { offers: Offer[]; onPick(o: Offer): void }) {
  if (offers.length === 0) return null;
  const first = offers.find(main);
  const last = offers.find((o) => o.verb === 'abort');
  const rest = offers.filter((o) => o !== first && o !== last);
  const button = (o: Offer, more = '') => (
    <button type="button" key={o.verb + (o.full ? '+' : '')} class={`btn ${danger(o) ? 'danger' : o === first ? 'primary' : ''} ${more}`} onClick={() => onPick(o)} title={o.effect}>
      {verbWords(o.verb, o.full)}
    </button>
  );
  return (
    <div class="actions" role="group" aria-label="Actions">
      {rest.map((o) => button(o, 'wide-only'))}
      {first && button(first)}
      {last && button(last)}
      {rest.length > 0 && (
        <details class="more narrow-only">
          <summary class="btn" aria-label="More actions">
            More
          </summary>
          <div class="more-box">{rest.map((o) => button(o))}</div>
        </details>
      )}
    </div>
  );
}

/** Asks for the reason, says the effect, sends, and says what became of it. */
export function Ask({ view, offer, name, onClose, onDone }: { view: View; offer: Offer; name: string; onClose(): void; onDone(text: string, bad: boolean): void }) {
  const dialog = useRef<HTMLDialogElement>(null);
  const [reason, setReason] = useState('');
  const [state, setState] = useState<{ busy?: boolean; wrong?: string }>({});
  // One id for however often it is sent: it is done once.
  const id = useRef(Array.from(crypto.getRandomValues(new Uint8Array(16)), (b) => b.toString(16).padStart(2, '0')).join(''));
  // What its author saw: it is refused where that is no longer so.
  const saw = useRef({ n: view.n, revision: (offer.verb === 'undo' ? view.stable : view.canary)?.revision });

  useEffect(() => {
    dialog.current?.showModal();
  }, []);

  const verb = verbWords(offer.verb, offer.full);
  const send = async (e: Event) => {
    e.preventDefault();
    if (state.busy) return;
    if (!reason.trim()) {
      setState({ wrong: 'A reason is asked for: it is recorded with your name.' });
      return;
    }
    setState({ busy: true });
    try {
      const a = await command(view, { id: id.current, verb: offer.verb, full: offer.full || undefined, reason: reason.trim(), n: saw.current.n, revision: saw.current.revision });
      if (a.refused) {
        setState({ wrong: a.message });
        return;
      }
      onDone(a.message, false);
      onClose();
    } catch (x) {
      setState({ wrong: x instanceof Refused ? x.message : String(x) });
    }
  };

  return (
    <dialog ref={dialog} class="ask" aria-labelledby="ask-title" onClose={onClose} onClick={(e) => e.target === dialog.current && dialog.current?.close()}>
      <form onSubmit={send} noValidate>
        <h2 id="ask-title">
          {verb}: {view.name}
        </h2>
        <p class="effect">
          <b>What it does.</b> {offer.effect}
        </p>
        <label for="ask-reason">Reason</label>
        <textarea
          id="ask-reason"
          rows={3}
          maxLength={1000}
          value={reason}
          autofocus
          required
          aria-describedby="ask-who"
          onInput={(e) => setReason(e.currentTarget.value)}
          onKeyDown={(e) => {
            if (e.key === 'Enter' && (e.ctrlKey || e.metaKey)) void send(e);
          }}
        />
        <p id="ask-who" class="muted small-text">
          Recorded as a decision of <b>{name}</b>, with this reason.
        </p>
        {state.wrong && (
          <p class="wrong" role="alert">
            {state.wrong}
          </p>
        )}
        <div class="ask-buttons">
          <button type="button" class="btn" onClick={() => dialog.current?.close()}>
            Cancel
          </button>
          <button type="submit" class={'btn ' + (danger(offer) ? 'danger solid' : 'primary')} disabled={state.busy}>
            {state.busy ? 'Sending…' : verb}
          </button>
        </div>
      </form>
    </dialog>
  );
}
