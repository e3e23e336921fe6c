import { lastValueFrom, map, Observable, toArray } from 'rxjs';
import type { Call } from '../../src/devices/port.js';
import { pull } from '../../src/migration/pull.js';
import type { Connection } from '../../src/transport/transport.js';

/** What a call answers again and again, until there is no more. */
export function pulled<T>(call: () => Call<T | undefined>): Observable<T> {
  return new Observable((subscriber) => pull<T>(call, {
    took: (value) => subscriber.next(value),
    ended: () => subscriber.complete(),
    failed: (error) => subscriber.error(error),
  }));
}

/** All that comes until the other side ends. */
export function everything(connection: Connection): Promise<Buffer> {
  return lastValueFrom(pulled(() => connection.read()).pipe(map((bytes) => Buffer.from(bytes)), toArray(), map((parts) => Buffer.concat(parts))));
}
