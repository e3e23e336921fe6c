import type { VfioDevice } from '../../../devices/device.js';
import type { Chunk, DataChannel, MigrationTraits, State } from '../../../devices/port.js';
import { statesOf, type TargetState } from '../../../devices/protocol/migration-states.js';
import { wayOf } from '../../../devices/protocol/migration-ways.js';
import { remapRegions } from '../../../operators/remap-regions.js';
import { remapIrq } from '../../../streams/remap-irq.js';
import { transition, type Arc } from '../../../streams/transition.js';
import { demand, skip, wordsOf } from '../rule.js';
import { Patience, settled } from '../patience.js';
import type { DeviceHarness } from '../device/harness.js';

/** What one read asks for, bytes. */
const readBytes = 1 << 20;
/** A stream longer than this has no end, bytes. */
const mostBytes = 2 ** 32;

/** A way from one state to another, and the arcs on it. */
export interface Way {
  readonly from: TargetState;
  readonly to: TargetState;
  readonly path: readonly TargetState[];
}

/** A device that is taken through its states, with its remaps served meanwhile. */
export class Mover {
  readonly device: VfioDevice;
  readonly migration: MigrationTraits;
  readonly steps: Patience;
  /** The session that is open. */
  data: DataChannel | undefined;
  readonly #patienceMs: number;
  #image: readonly Uint8Array[] | undefined;
  /** The session has been given a state. */
  #loaded = false;
  #pipelineError: unknown;

  private constructor(device: VfioDevice, migration: MigrationTraits, harness: DeviceHarness) {
    this.device = device;
    this.migration = migration;
    this.steps = new Patience(harness);
    this.#patienceMs = harness.patienceMs;
    remapIrq(device).pipe(remapRegions(device)).subscribe({ error: (error: unknown) => { this.#pipelineError = error; } });
  }

  static async of(harness: DeviceHarness): Promise<Mover> {
    const device = await harness.openDevice();
    const { migration } = device;
    if (migration === undefined) return skip('the device cannot migrate');
    return new Mover(device, migration, harness);
  }

  /** Every state that can be asked for. */
  get states(): readonly TargetState[] {
    const { version, flags } = this.migration;
    return statesOf(flags).filter((state) => version === 2 || !state.endsWith('-p2p'));
  }

  /** Every way between two of its states. What is blocked is not among them: some kernels never return from that. */
  get ways(): readonly Way[] {
    return this.states.flatMap((from) => this.states.flatMap((to) => {
      const path = wayOf(this.migration, from, to);
      return path === undefined ? [] : [{ from, to, path }];
    }));
  }

  /** One write of device_state. A session that it makes replaces the one before. */
  async go(to: State): Promise<Arc> {
    const what = `device_state ${this.device.currentState.state} -> ${to}`;
    try {
      const arc = await this.steps.value(transition(this.device, to, { deadlineMs: this.#patienceMs }), what);
      if (arc.data !== undefined) {
        this.#loaded = false;
        await this.#replace(arc.data);
      }
      return arc;
    } catch (error) {
      throw new Error(`${what}: ${wordsOf(this.#pipelineError ?? error)}`, { cause: error });
    }
  }

  /** What the driver says. */
  state(): Promise<State> {
    return this.steps.value(this.device.port.getState(), 'device_state');
  }

  /** Back to RUNNING, from wherever, and there to the state; in RESUMING all is loaded that leaving it needs. */
  async enter(state: TargetState, load = true): Promise<void> {
    await this.home();
    if (state === 'resuming') await this.image();
    if (state !== 'running') await this.go(state);
    if (state === 'resuming' && load) await this.write(await this.image());
  }

  async home(): Promise<void> {
    const { state: at } = this.device.currentState;
    if (this.device.info.reset) {
      await this.#replace(undefined);
      await this.steps.value(this.device.reset(), 'the reset');
    } else if (at !== 'running') {
      // Without a reset nothing leads out of RESUMING but a whole state, and a driver may fall over a session that it has lost.
      if (at === 'resuming' && !this.#loaded) await this.write(this.#image ?? []);
      await this.go('running');
      await this.#replace(undefined);
    }
    const state = await this.state();
    demand(state === 'running', `the device should be RUNNING again, it is in ${state}`);
  }

  /** RUNNING again before it is closed: there are drivers that keep a state over that, and fall over what they were in. */
  async leave(): Promise<void> {
    if (this.device.currentState.state === 'running' && this.data === undefined) return;
    // What went wrong before has been said already.
    await settled(this.home());
  }

  /** The device's own state, saved once: what RESUMING is fed with. */
  async image(): Promise<readonly Uint8Array[]> {
    if (this.#image !== undefined) return this.#image;
    await this.home();
    await this.go('stop-copy');
    this.#image = await this.readAll();
    await this.home();
    return this.#image;
  }

  read(): Promise<Chunk> {
    return this.steps.value(this.session.read(readBytes), 'a read of the data_fd');
  }

  /** Everything up to the end, or to where there is no more for now. */
  async readAll(): Promise<readonly Uint8Array[]> {
    const chunks: Uint8Array[] = [];
    for (let bytes = 0; ;) {
      const chunk = await this.read();
      if (chunk.kind !== 'bytes') return chunks;
      demand(chunk.bytes.length > 0, 'a read brought no bytes, and no end');
      chunks.push(chunk.bytes);
      bytes += chunk.bytes.length;
      demand(bytes <= mostBytes, `the stream has no end within ${mostBytes} bytes`);
    }
  }

  async write(chunks: readonly Uint8Array[]): Promise<void> {
    demand(this.data !== undefined && chunks.length > 0, 'the device is in RESUMING without a session or anything to load, and has no reset: nothing more is asked of it');
    this.#loaded = true;
    for (const bytes of chunks) await this.steps.value(this.session.write(bytes), 'a write of the data_fd');
  }

  get session(): DataChannel {
    if (this.data === undefined) throw new Error(`in ${this.device.currentState.state} there should be a session with a data_fd`);
    return this.data;
  }

  async #replace(data: DataChannel | undefined): Promise<void> {
    const old = this.data;
    this.data = data;
    if (old !== undefined) await this.steps.value(old.close(), 'close of the data_fd');
  }
}
