import { from, map, merge, take, timer, type Observable } from 'rxjs';
import { timerMs } from '../../../clock.js';
import type { DevicePort, IrqHandle, Mapping, RegionInfo, State, StateReply } from '../../../devices/port.js';
import { negotiate, type RemapAgreement, type RemapPage } from '../../../devices/protocol/negotiation.js';
import { subtractAreas } from '../../../devices/protocol/areas.js';
import { offeredAreas } from '../../../devices/protocol/layout-diff.js';
import { wayOf } from '../../../devices/protocol/migration-ways.js';
import { codeOf, settled, success, type Patience, type Settled } from '../patience.js';
import { demand, skip } from '../rule.js';
import type { DeviceHarness } from './harness.js';
import { Opened } from './opened.js';

/** How long a write that has to wait is watched not to return, ms. */
const watchMs = 100;

/** What one page of the remap irq said. */
export interface Heard {
  readonly page: RemapPage;
  readonly count: bigint;
}

/** A user that serves remaps by hand, step by step, so that each step can be held up or done wrong. */
export class RemapUser {
  readonly opened: Opened;
  readonly agreement: RemapAgreement;
  readonly #handles = new Map<RemapPage, IrqHandle>();
  #mappings: Mapping[] = [];

  private constructor(opened: Opened, agreement: RemapAgreement) {
    this.opened = opened;
    this.agreement = agreement;
  }

  /** On a device whose layouts change on the way into STOP_COPY. */
  static async of(harness: DeviceHarness): Promise<RemapUser> {
    const opened = await Opened.of(harness);
    const agreement = negotiate({ irqs: await opened.irqs(), regions: await opened.layouts(), regionCount: opened.device.info.regions }, opened.device.name);
    if (agreement.profile === 'static') skip('its layouts never change');
    const { migration } = opened.device;
    if (migration === undefined || wayOf(migration, 'running', 'stop-copy') === undefined) skip('there is no way into STOP_COPY');
    return new RemapUser(opened, agreement);
  }

  /** On one that signals by an irq; the irq is registered, and all that is offered is mapped. */
  static async registered(harness: DeviceHarness): Promise<RemapUser> {
    const user = await RemapUser.of(harness);
    if (user.pages.length === 0) skip('its layouts change without an irq');
    await user.register();
    await user.mapAll();
    return user;
  }

  get pages(): readonly RemapPage[] {
    return 'pages' in this.agreement ? this.agreement.pages : [];
  }

  get port(): DevicePort {
    return this.opened.port;
  }

  get steps(): Patience {
    return this.opened.steps;
  }

  async register(): Promise<void> {
    for (const page of this.pages) {
      this.#handles.set(page, await this.steps.value(this.port.irq({ index: page.irqIndex }, page.ack === 'value' ? { ackFd: true } : {}), 'the registration of the remap irq'));
    }
  }

  async mapAll(): Promise<void> {
    this.#mappings = await this.opened.mapAll(await this.opened.layouts());
  }

  /** Of every region that may ever change. */
  layouts(): Promise<readonly RegionInfo[]> {
    const { agreement } = this;
    const changing = 'pages' in agreement ? agreement.pages.flatMap(({ declared }) => [...declared]) : 'regions' in agreement ? [...agreement.regions] : [];
    return this.opened.layouts(changing.filter((index) => this.opened.device.regions.has(index)));
  }

  /** Begins a write of device_state. */
  write(to: State): Write {
    return new Write(this, to);
  }

  /** The next signal of any page. */
  heard(): Promise<Heard> {
    return this.steps.value(this.#signal(), 'the signal of the remap irq');
  }

  /** The next signal of any page; undefined where this comes first. */
  heardOr(end: Promise<unknown>): Promise<Heard | undefined> {
    return this.steps.value(merge(this.#signal(), from(end).pipe(map(() => undefined))).pipe(take(1)), 'a signal of the remap irq, or the return of the write,');
  }

  /** Unmaps what the layouts do not offer any more. */
  async letGo(): Promise<number> {
    const infos = new Map((await this.layouts()).map((info) => [info.index, info]));
    const gone = this.#mappings.filter(({ region, area }) => {
      const info = infos.get(region);
      return info !== undefined && subtractAreas([area], offeredAreas(info, info.size)).length > 0;
    });
    await this.opened.unmapAll(gone);
    this.#mappings = this.#mappings.filter((mapping) => !gone.includes(mapping));
    return gone.length;
  }

  async ack({ page, count }: Heard): Promise<void> {
    if (page.ack === 'none') return;
    await this.steps.value(this.#handle(page).ack(page.ack === 'write-zero' ? 0n : page.ack === 'write-one' ? 1n : count), 'the ack');
  }

  async disable(page: RemapPage): Promise<void> {
    await this.steps.value(this.#handle(page).close(), 'the disabling of the remap irq');
    this.#handles.delete(page);
  }

  /** Serves whatever comes until the write has returned. */
  async serve(write: Write): Promise<Settled<StateReply>> {
    for (;;) {
      const heard = await this.heardOr(write.outcome);
      if (heard === undefined) return write.outcome;
      await this.letGo();
      await this.ack(heard);
    }
  }

  /** Back to RUNNING, whatever happened. */
  async leave(): Promise<void> {
    const { device, port, steps } = this.opened;
    for (const page of [...this.#handles.keys()]) await settled(this.disable(page));
    await settled(this.opened.unmapAll(this.#mappings.splice(0)));
    await settled(steps.value<unknown>(device.info.reset ? port.reset() : port.setState('running'), 'the way back'));
  }

  /** Time passes in which nothing may happen. */
  async watch(): Promise<void> {
    await this.steps.value(timer(timerMs(Math.min(watchMs, this.steps.ms / 4)), this.steps.clock.scheduler), 'a moment');
  }

  #signal(): Observable<Heard> {
    return merge(...[...this.#handles].map(([page, handle]) => handle.next().pipe(map(({ count }) => ({ page, count }))))).pipe(take(1));
  }

  #handle(page: RemapPage): IrqHandle {
    const handle = this.#handles.get(page);
    if (handle === undefined) throw new Error(`the irq of page ${page.page} is not registered`);
    return handle;
  }
}

/** A write of device_state that was begun. */
export class Write {
  readonly outcome: Promise<Settled<StateReply>>;
  #returned: string | undefined;
  readonly #to: State;

  constructor({ port, steps }: RemapUser, to: State) {
    this.#to = to;
    this.outcome = settled(steps.value(port.setState(to), `device_state ${to}`)).then(async (outcome) => {
      this.#returned = codeOf(outcome);
      // Nobody reads it: the rules of its bytes are others.
      if ('value' in outcome && outcome.value.data !== undefined) await settled(steps.value(outcome.value.data.close(), 'close of the data_fd'));
      return outcome;
    });
  }

  waits(why: string): void {
    demand(this.#returned === undefined, `device_state ${this.#to} has returned ${why}: ${this.#returned}`);
  }

  async succeeds(): Promise<void> {
    const { state } = success(await this.outcome, `device_state ${this.#to}`);
    demand(state === this.#to, `device_state ${this.#to} led to ${state}`);
  }

  async fails(code: string, why: string): Promise<void> {
    const found = codeOf(await this.outcome);
    demand(found === code, `device_state ${this.#to} should end with ${code} ${why}: ${found}`);
  }
}
