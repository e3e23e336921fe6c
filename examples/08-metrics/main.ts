import { Registry } from 'prom-client';
import { concat, concatMap, ignoreElements, merge, NEVER, repeat, takeUntil, tap, timer, type Observable } from 'rxjs';
import { irqs, remapIrq, remapRegions, transition, withDevice, type VfioDevice } from 'vfio-rx';
import { ownIrq } from '../shared/own-irq.js';
import { addressOf, interrupted, misused, parsed, run, sayingStates } from '../shared/program.js';
import { lively, takeAndGive } from '../shared/software.js';
import { serveMetrics } from './http.js';
import { countDevices } from './metrics.js';

/**
 * What a program does with its devices, as metrics for Prometheus. Nothing of the program itself has to change: the library tells
 * it on channels of node:diagnostics_channel.
 *
 * ```
 * irqs            ---1---2------1---
 * remaps          -----r-----r------
 * vfio-rx:irq     ---i---i------i---    counted
 * vfio-rx:remap   -----s-----s------    into a histogram: servedNs
 * GET /metrics    -------g------g---
 * ```
 */

const { device: name, port = '9464' } = parsed({ options: { device: { type: 'string' }, port: { type: 'string' } } }).values;
const mostPort = 65_535;
if (!/^\d{1,5}$/.test(port) || Number(port) > mostPort) misused(`--port takes a number up to ${mostPort}, not "${port}"`);

/** It interrupts, takes memory away, and once it has none to give back at first. */
const software = lively((driver, turn) => {
  driver.raiseMsi();
  if (turn === 1) driver.faults.failMap(0, 'ENOMEM');
  takeAndGive(driver, turn);
});
const address = addressOf(name, software);

const registry = new Registry();
// Before the device is opened: what it does while it is opened counts, too.
countDevices(registry);

/** device_state goes to and fro; a real device is left where it is. */
function toAndFro(device: VfioDevice): Observable<never> {
  if (typeof address === 'string') return NEVER;
  return concat(transition(device, 'stop'), transition(device, 'running')).pipe(repeat({ delay: () => timer(500) }), ignoreElements());
}

run(
  merge(
    serveMetrics(registry, Number(port)).pipe(tap((url) => console.log(url))),
    withDevice(address, (device) =>
      merge(
        remapIrq(device).pipe(remapRegions(device)),
        ownIrq(device).pipe(concatMap(({ index, count }) => irqs(device, index, [...Array(count).keys()]))),
        toAndFro(device),
      ).pipe(sayingStates(device), takeUntil(interrupted)),
    ),
  ).pipe(takeUntil(interrupted)),
);
