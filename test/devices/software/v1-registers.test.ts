import { describe, expect, it } from 'vitest';
import type { State } from '../../../src/devices/port.js';
import { Faults } from '../../../src/devices/software/faults.js';
import { RegionMemory } from '../../../src/devices/software/region-memory.js';
import { ResumeSession, SaveSession, type Session } from '../../../src/devices/software/state-stream.js';
import { V1Registers, v1RegionShape } from '../../../src/devices/software/v1-registers.js';
import { encodeInfoField, migrationInfoLayout, readInfoField } from '../../../src/devices/uapi/migration-info.js';

const { device_state, reserved, pending_bytes, data_offset, data_size } = migrationInfoLayout;
const firstHalf = 0x1000;
const secondHalf = 0x9000;
const halfBytes = 0x8000;

const contents = 0x1_0000;

function registers(state: State, session?: (regions: ReadonlyMap<number, RegionMemory>) => Session) {
  const regions = new Map([[0, new RegionMemory(0, contents, () => undefined)]]);
  regions.get(0)?.write(0, Uint8Array.from({ length: contents }, (_, n) => n % 251));
  const memory = new RegionMemory(9, v1RegionShape.size, () => undefined);
  const machine = { state, session: session?.(regions), asked: [] as State[], set: (to: State) => void machine.asked.push(to) };
  const v1 = new V1Registers({ memory, machine, faults: new Faults() });
  const field = (offset: number): number | string => {
    const answer = v1.read(offset, 8);
    return typeof answer === 'string' ? answer : Number(readInfoField(answer));
  };
  return { v1, machine, memory, regions, field };
}

const saving = (regions: ReadonlyMap<number, RegionMemory>): SaveSession => {
  const session = new SaveSession(regions);
  session.stop();
  return session;
};

describe('the migration region of the software driver', () => {
  it('names the state in its bits', () => {
    const bits = (['stop', 'running', 'stop-copy', 'pre-copy', 'resuming'] as const).map((state) => registers(state).v1.read(device_state, 4));
    expect(bits).toEqual([0, 1, 2, 3, 4].map((n) => Uint8Array.of(n, 0, 0, 0)));
  });

  it('reads a field whole or not at all, and only data_size is written', () => {
    const { v1 } = registers('running');
    expect(v1.read(reserved, 4)).toEqual(new Uint8Array(4));
    for (const [offset, bytes] of [[device_state, 8], [device_state, 2], [pending_bytes, 4], [12, 8], [32, 8]] as const) expect(v1.read(offset, bytes), `${offset}`).toBe('EINVAL');
    for (const offset of [device_state, reserved, pending_bytes, data_offset, data_size]) expect(v1.write(offset, encodeInfoField(0)), `${offset}`).toBe('EINVAL');
  });

  it('asks the machine for the state that is written, and refuses what names none', () => {
    const { v1, machine } = registers('running');
    const errnos: unknown[] = [];
    for (const bits of [2, 5, 7]) v1.writeState(Uint8Array.of(bits, 0, 0, 0), ({ errno }) => errnos.push(errno));
    expect([machine.asked, errnos]).toEqual([['stop-copy'], ['EINVAL', 'EINVAL']]);
  });

  it('has nothing pending where no session saves', () => {
    const { field } = registers('running');
    expect([field(pending_bytes), field(data_offset), field(data_size)]).toEqual([0, firstHalf, 0]);
  });

  it('stages a chunk at a read of data_offset, in its two halves by turns, until pending_bytes is read', () => {
    const { v1, field } = registers('stop-copy', saving);
    const whole = field(pending_bytes);
    const got: number[] = [];
    const places: unknown[] = [];
    for (let pending = whole; pending !== 0; pending = field(pending_bytes)) {
      const [offset, size] = [field(data_offset), field(data_size)];
      // Both may be read again: they go on saying the same.
      expect([field(data_offset), field(data_size)]).toEqual([offset, size]);
      places.push(offset);
      got.push(...(v1.read(Number(offset), Number(size)) as Uint8Array));
    }
    expect(got).toHaveLength(Number(whole));
    expect(places.slice(0, 4)).toEqual([firstHalf, secondHalf, firstHalf, secondHalf]);
    expect(got.slice(-contents)).toEqual(Array.from({ length: contents }, (_, n) => n % 251));
  });

  it('takes chunks where data_offset says, at the write of data_size; more than fits it refuses', () => {
    const saver = registers('stop-copy', saving);
    const { v1, machine, regions, field } = registers('resuming', (all) => new ResumeSession(all));
    regions.get(0)?.write(0, new Uint8Array(contents));
    expect(v1.write(data_size, encodeInfoField(2 * halfBytes + 1))).toBe('EINVAL');
    while (saver.field(pending_bytes) !== 0) {
      const [from, size, to] = [saver.field(data_offset), saver.field(data_size), field(data_offset)].map(Number) as [number, number, number];
      v1.write(to, saver.v1.read(from, size) as Uint8Array);
      expect(v1.write(data_size, encodeInfoField(size))).toBeUndefined();
      expect(field(data_offset)).not.toBe(to);
    }
    expect(machine.session instanceof ResumeSession && machine.session.load()).toBeUndefined();
    expect(regions.get(0)?.read(0, contents)).toEqual(saver.regions.get(0)?.read(0, contents));
  });

  it('takes nothing where no session resumes', () => {
    expect(registers('running').v1.write(data_size, encodeInfoField(4))).toBe('EINVAL');
    expect(registers('stop-copy', saving).v1.write(data_size, encodeInfoField(4))).toBe('EINVAL');
  });
});
