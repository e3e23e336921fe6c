import { subscribe, unsubscribe, type Channel } from 'node:diagnostics_channel';
import { Observable } from 'rxjs';

/** What is published on a diagnostics channel, while somebody is subscribed. */
export function published<T>(channel: Channel<T>): Observable<T> {
  return new Observable<T>((subscriber) => {
    // The channel's own listeners are untyped: it has one kind of message.
    const listen = (message: unknown): void => subscriber.next(message as T);
    subscribe(channel.name, listen);
    return () => unsubscribe(channel.name, listen);
  });
}
