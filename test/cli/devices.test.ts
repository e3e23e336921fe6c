import { concat, of, throwError, type Observable } from 'rxjs';
import { expect, it } from 'vitest';
import { withDevices } from '../../src/cli/devices.js';
import { softwareDevice } from '../../src/devices/software/software-device.js';
import { VfioError } from '../../src/errors.js';

/** Two devices, one of which can be served no longer while `body` goes on; what is heard of it. */
async function broken(body: (broke: Promise<string>) => Observable<string>): Promise<readonly string[]> {
  const software = softwareDevice({ name: 'one' });
  const heard: string[] = [];
  await new Promise<void>((end) => {
    withDevices([{ name: 'one', address: software }, { name: 'two', address: softwareDevice({ name: 'two' }) }], (_, breaks) => {
      const broke = new Promise<string>((done) => breaks.subscribe({ error: (error: unknown) => done(VfioError.is(error) ? error.code : String(error)) }));
      setImmediate(() => {
        software.driver.faults.failQuery(0, 'EIO', 99);
        software.driver.revoke(0);
      });
      return body(broke);
    }).subscribe({
      next: (value) => heard.push(value),
      error: (error: unknown) => { heard.push(VfioError.is(error) ? error.code : String(error)); end(); },
      complete: () => { heard.push('completed'); end(); },
    });
  });
  expect(software.driver.opens).toBe(0);
  return heard;
}

it('where a device can be served no longer the work is told, says what it ends with, and then that is the failure', async () => {
  expect(await broken((broke) => concat(broke.then((code) => `heard ${code}`), of('and went on')))).toEqual(['heard VFIO_E_IO', 'and went on', 'VFIO_E_IO']);
});

it('work that ends before anything breaks has not failed', async () => {
  expect(await broken(() => of('done'))).toEqual(['done', 'completed']);
  expect(await broken(() => throwError(() => new Error('by itself')))).toEqual(['Error: by itself']);
});
