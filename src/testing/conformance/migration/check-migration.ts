import { subscribe, unsubscribe } from 'node:diagnostics_channel';
import type { Abortable } from '../../../abort.js';
import { warningChannel, type Warning } from '../../../diagnostics.js';
import { arcEffect, migrationFlags } from '../../../devices/protocol/migration-states.js';
import { demand, describeRules, skip, type Rule, type RuleResult, type TestRunner } from '../rule.js';
import { codeOf, settled, success } from '../patience.js';
import { deviceResult, deviceResults } from '../device/check-device.js';
import type { DeviceHarness, DeviceNeed } from '../device/harness.js';
import { Mover, type Way } from './mover.js';

const nsPerMs = 1_000_000n;

/** A check with a device that is RUNNING when it begins, is taken through its states, and is RUNNING again when it is closed. */
function moving(check: (mover: Mover, harness: DeviceHarness) => Promise<void>): (harness: DeviceHarness) => Promise<void> {
  return async (harness) => {
    const mover = await Mover.of(harness);
    try {
      if (mover.device.currentState.state !== 'running') await mover.home();
      await check(mover, harness);
    } finally {
      await mover.leave();
    }
  };
}

/** Goes each of the ways, from a fresh start, and looks at where it led. */
async function walk(mover: Mover, which: (way: Way) => boolean, look: (way: Way, arc: Awaited<ReturnType<Mover['go']>>) => Promise<void> | void): Promise<number> {
  const ways = mover.ways.filter(which);
  await mover.image();
  for (const way of ways) {
    await mover.enter(way.from);
    await look(way, await mover.go(way.to));
  }
  return ways.length;
}

async function arrives(mover: Mover, { from, to, path }: Way): Promise<void> {
  const state = await mover.state();
  demand(state === to, `${from} -> ${path.join(' -> ') || to}: the device should be in ${to}, it is in ${state}`);
}

const joined = (chunks: readonly Uint8Array[]): Buffer => Buffer.concat(chunks);

function needPreCopy(mover: Mover): void {
  if (!mover.states.includes('pre-copy')) skip('the device has no PRE_COPY');
}

/** What a driver of a device that migrates promises, in either generation of device_state. */
export const migrationRules: readonly Rule<DeviceHarness, DeviceNeed>[] = [
  {
    id: 'MIGRATION-1',
    title: 'it is RUNNING when it is opened, and can at least be stopped and saved',
    async check(harness) {
      const mover = await Mover.of(harness);
      const state = await mover.state();
      demand(state === 'running', `it should be RUNNING, it is in ${state}`);
      const { flags } = mover.migration;
      demand((flags & migrationFlags.stopCopy) !== 0, `its flags are ${flags}: STOP_COPY (1) should be among them`);
    },
  },
  {
    id: 'MIGRATION-2',
    title: 'every single arc of its flags leads where it says',
    check: moving(async (mover) => {
      await walk(mover, ({ path }) => path.length <= 1, (way) => arrives(mover, way));
    }),
  },
  {
    id: 'MIGRATION-3',
    title: 'every way of several arcs is gone in one write',
    check: moving(async (mover) => {
      const ways = await walk(mover, ({ path }) => path.length > 1, (way) => arrives(mover, way));
      if (ways === 0) skip('a write is one arc on this device');
    }),
  },
  {
    id: 'MIGRATION-4',
    title: 'a session begins where a way enters the saving group or RESUMING, and nowhere else',
    check: moving(async (mover) => {
      await walk(mover, () => true, ({ from, to }, { data }) => {
        const { makes } = arcEffect(from, to);
        demand(data?.direction === makes, `${from} -> ${to} should bring ${makes === undefined ? 'no data_fd' : `a data_fd to ${makes}`}, it brought ${data === undefined ? 'none' : `one to ${data.direction}`}`);
      });
    }),
  },
  {
    id: 'MIGRATION-5',
    title: 'a session ends with its states: then its data_fd answers ENODEV',
    check: moving(async (mover) => {
      for (const { from, to } of mover.ways) {
        const { ends } = arcEffect(from, to);
        // The way back ends it as any other does.
        if (ends === undefined || to !== 'stop') continue;
        await mover.enter(from);
        const session = mover.session;
        await mover.go(to);
        const call = ends === 'save' ? session.read(1) : session.write(Uint8Array.of(0));
        await mover.steps.fails('VFIO_E_NO_DEVICE', call, `${ends === 'save' ? 'reading' : 'writing'} the data_fd of ${from} in ${to}`);
      }
    }),
  },
  {
    id: 'MIGRATION-6',
    title: 'in STOP_COPY the data has an end, and stays at it',
    check: moving(async (mover) => {
      await mover.go('stop-copy');
      const bytes = joined(await mover.readAll()).length;
      demand(bytes > 0, 'a device should have something to save');
      for (let again = 0; again < 2; again += 1) {
        const { kind } = await mover.read();
        demand(kind === 'end', `behind the end should be the end, there is ${kind}`);
      }
    }),
  },
  {
    id: 'MIGRATION-7',
    title: 'in PRE_COPY the data is quiet for now (ENOMSG), and the same session goes on in STOP_COPY',
    check: moving(async (mover) => {
      needPreCopy(mover);
      const warnings: string[] = [];
      const hear = (warning: unknown): void => { warnings.push((warning as Warning).what); };
      await mover.go('pre-copy');
      subscribe(warningChannel.name, hear);
      try {
        await mover.readAll();
        const { kind } = await mover.read();
        // A device may find more to say at any time, but it has not ended.
        demand(kind !== 'end', 'a device that runs has not said all: the end for now should be ENOMSG');
      } finally {
        unsubscribe(warningChannel.name, hear);
      }
      await mover.go('stop-copy');
      await mover.readAll();
      const { kind } = await mover.read();
      demand(kind === 'end', `stopped, the session should end, there is ${kind}`);
      demand(warnings.length === 0, warnings[0] ?? '');
    }),
  },
  {
    id: 'MIGRATION-8',
    title: 'it estimates what there is to read in PRE_COPY, and only there',
    check: moving(async (mover) => {
      needPreCopy(mover);
      await mover.go('pre-copy');
      const estimate = await settled(mover.steps.value(mover.session.precopy(), 'the estimate'));
      if (codeOf(estimate) === 'VFIO_E_UNSUPPORTED') skip('this port has no call that asks what there is to read');
      success(estimate, 'the estimate');
      await mover.go('stop-copy');
      await mover.steps.fails('VFIO_E_RANGE', mover.session.precopy(), 'an estimate in STOP_COPY');
    }),
  },
  {
    id: 'MIGRATION-9',
    title: 'what was saved is loaded: saved again it is the same',
    check: moving(async (mover) => {
      const first = joined(await mover.image());
      await mover.enter('resuming');
      await mover.go('stop');
      await mover.go('stop-copy');
      const second = joined(await mover.readAll());
      const at = first.findIndex((byte, index) => byte !== second[index]);
      demand(at < 0 && first.length === second.length, `saved ${first.length} bytes, loaded and saved again ${second.length}; they differ from byte ${at < 0 ? Math.min(first.length, second.length) : at} on`);
    }),
  },
  {
    id: 'MIGRATION-10',
    title: 'a guest finds what it had when the device was saved',
    needs: ['state'],
    check: moving(async (mover, harness) => {
      const { device, steps } = mover;
      const { state } = harness;
      if (state === undefined) return;
      await steps.value(state.change(device, 1), 'a change of its state');
      const had = await steps.value(state.look(device), 'a look at its state');
      await mover.image();
      await steps.value(state.change(device, 2), 'a change of its state');
      const other = await steps.value(state.look(device), 'a look at its state');
      demand(Buffer.compare(had, other) !== 0, 'the harness does not change what it looks at');
      await mover.enter('resuming');
      await mover.go('running');
      demand(Buffer.compare(await steps.value(state.look(device), 'a look at its state'), had) === 0, 'what was loaded is not what was saved');
    }),
  },
  {
    id: 'MIGRATION-11',
    title: 'half a stream is not taken for a whole one, and a reset recovers',
    needs: ['destructive'],
    check: moving(async (mover) => {
      if (!mover.device.info.reset) skip('the device has no reset');
      const whole = joined(await mover.image());
      await mover.enter('resuming', false);
      const taken = await settled(mover.write([whole.subarray(0, Math.ceil(whole.length / 2))]).then(() => mover.go('stop')));
      demand('error' in taken, `it took ${Math.ceil(whole.length / 2)} of ${whole.length} bytes for its whole state`);
      const state = await mover.state();
      demand(state === 'resuming' || state === 'error', `it should be in RESUMING still, or in ERROR; it is in ${state}`);
      await mover.home();
      await mover.enter('resuming');
      await mover.go('running');
    }),
  },
  {
    id: 'MIGRATION-12',
    title: 'a reset leads from every state to RUNNING, and ends the session',
    check: moving(async (mover) => {
      const { device, steps } = mover;
      if (!device.info.reset) skip('the device has no reset');
      for (const from of mover.states) {
        await mover.enter(from, false);
        const { data } = mover;
        await steps.value(device.reset(), `the reset in ${from}`);
        const state = await mover.state();
        demand(state === 'running', `a reset in ${from} should lead to RUNNING, it led to ${state}`);
        if (data !== undefined) await steps.fails('VFIO_E_NO_DEVICE', data.direction === 'save' ? data.read(1) : data.write(Uint8Array.of(0)), `the data_fd of ${from} after the reset`);
      }
    }),
  },
  {
    id: 'MIGRATION-13',
    title: 'no arc takes longer than its deadline',
    check: moving(async (mover, harness) => {
      const { deadlineMs = harness.patienceMs } = harness;
      await walk(mover, ({ path }) => path.length === 1, ({ from, to }, { tookNs }) => {
        demand(tookNs <= BigInt(deadlineMs) * nsPerMs, `${from} -> ${to} took ${tookNs / nsPerMs} ms, more than ${deadlineMs}`);
      });
    }),
  },
  {
    id: 'MIGRATION-14',
    title: 'whoever opens it next finds it RUNNING, although it was closed in STOP',
    check: moving(async (mover, harness) => {
      await mover.go('stop');
      await harness.dispose();
      const next = await Mover.of(harness);
      const state = await next.state();
      await next.leave();
      demand(state === 'running', `it was closed in stop, and is opened in ${state}`);
    }),
  },
];

/**
 * Checks the driver of a device that migrates against every rule, in either generation of device_state. It goes every way that
 * the device's flags allow, and none that is blocked: some kernels never return from those.
 * Aborted by `signal`, it rejects with VFIO_E_ABORTED behind the rule in hand, whose device is closed.
 *
 * @example
 * const results = await checkMigration({ patienceMs: 5000, openDevice: () => firstValueFrom(openDevice('0000:03:00.1')), dispose });
 * @see describeMigration, checkDevice, softwareMigrationHarness
 */
export function checkMigration(harness: DeviceHarness, told?: (result: RuleResult) => void, options?: Abortable): Promise<readonly RuleResult[]> {
  return deviceResults(harness, migrationRules, told, options);
}

/** The same as tests of a runner, one for each rule. */
export function describeMigration(runner: TestRunner, name: string, harness: DeviceHarness): void {
  describeRules(runner, `${name} as a device that migrates`, migrationRules, (rule) => deviceResult(harness, rule));
}
