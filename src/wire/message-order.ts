import { streamError } from './frame.js';
import type { Message, MessageType } from './message.js';

/**
 * What may come when: the grammar of one direction, checked before anybody acts on a message.
 *
 * ```
 * source       hello  data*  switch-over  (data | end)*  commit
 * destination  welcome  credit*  switch-over-ok  credit*  prepared  confirmed
 * ```
 *
 * A device that runs is never at its end. An abort may come at any time, never-ran from the destination in place of any answer. A
 * connection that is about a migration already decided (its hello says `resolve`) carries the last words only.
 */
export class MessageOrder {
  readonly #from: 'source' | 'destination';
  /** The types that came, of those that come once. */
  readonly #came = new Set<MessageType>();
  readonly #ended = new Set<number>();
  #devices = 0;
  #resolving = false;

  constructor(from: 'source' | 'destination', known: { readonly devices: number; readonly resolving: boolean } = { devices: 0, resolving: false }) {
    this.#from = from;
    this.#devices = known.devices;
    this.#resolving = known.resolving;
  }

  /** Throws VFIO_E_STREAM where this message must not come now. */
  accept(message: Message): void {
    const { type } = message;
    if (!(this.#from === 'source' ? this.#bySource(message) : this.#byDestination(message))) throw streamError(`the ${this.#from} sent ${type} where it must not come`);
    if ('device' in message && message.device >= this.#devices) throw streamError(`${type} about device ${message.device}, where there are ${this.#devices}`);
    if (type === 'end') this.#ended.add(message.device);
    if (type === 'hello') {
      this.#devices = message.hello.devices.length;
      this.#resolving = message.hello.purpose === 'resolve';
    }
    if (type !== 'data' && type !== 'credit' && type !== 'end') this.#came.add(type);
  }

  #bySource(message: Message): boolean {
    const { type } = message;
    if (type === 'hello') return this.#came.size === 0;
    if (!this.#came.has('hello') || this.#came.has('abort')) return false;
    if (type === 'abort') return true;
    if (type === 'commit') return !this.#came.has('commit') && (this.#resolving || (this.#came.has('switch-over') && this.#ended.size === this.#devices));
    if (this.#resolving) return false;
    if (type === 'end' && !this.#came.has('switch-over')) return false;
    if (type === 'data' || type === 'end') return !this.#ended.has(message.device);
    return type === 'switch-over' && !this.#came.has(type);
  }

  #byDestination({ type }: Message): boolean {
    if (type === 'abort') return !this.#came.has('abort');
    if (this.#came.has('never-ran') || this.#came.has('confirmed')) return false;
    if (type === 'welcome') return this.#came.size === 0;
    if (!this.#came.has('welcome')) return false;
    if (type === 'never-ran') return true;
    if (type === 'confirmed') return this.#resolving || this.#came.has('prepared');
    if (this.#resolving) return false;
    if (type === 'credit') return true;
    return type === 'switch-over-ok' ? !this.#came.has(type) : type === 'prepared' && this.#came.has('switch-over-ok') && !this.#came.has(type);
  }
}
