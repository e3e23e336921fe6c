import { callSite, type CallSite } from './marble-error.js';

type Then = (this: Promise<unknown>, ...callbacks: unknown[]) => Promise<unknown>;

/**
 * Runs `work`, and tells of every Promise that somebody waits for meanwhile: it goes on only when `work` has returned, so
 * in virtual time it never does. An `await` is not seen by itself; whoever waits for its async function is.
 */
export function noticingPromises(work: () => void, found: (at: CallSite) => void): void {
  const was = Object.getOwnPropertyDescriptor(Promise.prototype, 'then') ?? {};
  const then = was.value as Then;
  const noticing: Then = function (...callbacks) {
    found(callSite(noticing));
    return then.apply(this, callbacks);
  };
  Reflect.defineProperty(Promise.prototype, 'then', { ...was, value: noticing });
  try {
    work();
  } finally {
    Reflect.defineProperty(Promise.prototype, 'then', was);
  }
}
