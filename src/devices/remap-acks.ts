import { catchError, concatMap, map, of, throwError } from 'rxjs';
import { VfioError } from '../errors.js';
import type { Call, IrqHandle } from './port.js';
import { ackWrites } from './protocol/ack-value.js';
import { echo, readAfterAck } from './protocol/echo.js';
import type { AckForm } from './protocol/negotiation.js';
import { steps } from './steps.js';

/** What an ack has read from the trigger eventfd: the next batch, before any other. */
export interface ReadByAck {
  readonly count: bigint;
  /** It may be the echo of this ack. */
  readonly doubtful: boolean;
  /** The ack did not fit: every declared region is looked at again, and then it is made once more. */
  readonly full: boolean;
}

/** What came of an ack. */
export interface Acked {
  readonly written: boolean;
  readonly read: ReadByAck | undefined;
}

/** Sends one ack for counts of this sum. */
export type SendAck = (handle: IrqHandle, sum: bigint) => Call<Acked>;

const done: Acked = { written: true, read: undefined };

/** `value`: the sum of what was read goes to the ack eventfd. The driver takes it out as it arrives, so that it never fills. */
const byValue: SendAck = (handle, sum) =>
  steps(function* () {
    for (const count of ackWrites(sum)) yield handle.ack(count);
    return done;
  });

/** `write-zero`: changes no count, and the driver's wait entry hears it. */
const writeZero: SendAck = (handle) => orFull(handle, handle.ack(0n).pipe(map(() => done)));

/** `write-one`: it may come back, so the eventfd is read once more at once. */
const writeOne: SendAck = (handle) =>
  orFull(
    handle,
    handle.ack(echo).pipe(
      concatMap(() => handle.readNow()),
      map((count): Acked => {
        const after = readAfterAck(count);
        return { written: true, read: count === undefined ? undefined : { count, doubtful: after === 'doubtful', full: false } };
      }),
    ),
  );

/** `none`: the driver sees for itself that the mappings are gone. */
const nothing: SendAck = () => of({ written: false, read: undefined });

export const ackForms: Readonly<Record<AckForm, SendAck>> = { value: byValue, 'write-zero': writeZero, 'write-one': writeOne, none: nothing };

/** A count so nearly full that the ack does not fit makes room by being read; what it said comes before the ack that it delays. */
function orFull(handle: IrqHandle, ack: Call<Acked>): Call<Acked> {
  return ack.pipe(
    catchError((error: unknown) => {
      if (!VfioError.is(error) || error.errno !== 'EAGAIN') return throwError(() => error);
      return handle.readNow().pipe(map((count): Acked => ({ written: false, read: { count: count ?? 0n, doubtful: false, full: true } })));
    }),
  );
}
