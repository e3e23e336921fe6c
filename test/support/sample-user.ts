import { afterEach, expect } from 'vitest';
import { nothingHeld, SampleMdev, type SampleOptions } from './mdev.js';
import { RawUser } from './raw-user.js';

/** Where regions of the sample driver may be mapped (drivers/linux/README.md). */
export const areas = {
  whole: { offset: 0, size: 0x1_0000 },
  first: { offset: 0, size: 0x8000 },
  second: { offset: 0x1_0000, size: 0x8000 },
  onlySaving: { offset: 0x1_8000, size: 0x8000 },
  far: { offset: 0, size: 0x2000 },
  farther: { offset: 0, size: 0x1000 },
} as const;

/** An emulated processor may take seconds to start a thread: the driver's clock decides only where a test wants it to. */
export const patientMs = 20_000;

export interface SampleUser {
  readonly mdev: SampleMdev;
  readonly user: RawUser;
  /** The user goes and, in a test that removes the device itself, so does this one's say about it. */
  readonly gone: () => void;
}

/**
 * Devices with a user each, for the tests of one file. After each test the users are gone and the drivers hold nothing.
 *
 * @returns makes one
 */
export function sampleUsers(): (options?: SampleOptions) => SampleUser {
  const made = new Set<SampleUser>();
  afterEach(() => {
    for (const sample of made) {
      const { mdev, user } = sample;
      made.delete(sample);
      user[Symbol.dispose]();
      const held = mdev.held();
      mdev[Symbol.dispose]();
      expect(held).toEqual(nothingHeld);
    }
  });
  return (options = {}) => {
    const mdev = new SampleMdev({ ackTimeoutMs: patientMs, ...options });
    try {
      const user = new RawUser(mdev.uuid);
      const sample = {
        mdev,
        user,
        gone: () => {
          made.delete(sample);
          user[Symbol.dispose]();
        },
      };
      made.add(sample);
      return sample;
    } catch (error) {
      mdev[Symbol.dispose]();
      throw error;
    }
  };
}

/** Both fds of a remap irq, fresh and registered. */
export function register(user: RawUser, index = 5): { readonly trigger: number; readonly ack: number } {
  const trigger = user.eventfd();
  const ack = user.eventfd();
  expect([user.trigger(index, trigger), user.ack(index, ack)]).toEqual(['ok', 'ok']);
  return { trigger, ack };
}

/** The fd of a remap irq that has no ack fd, fresh and registered. */
export function registerTrigger(user: RawUser, index = 5): number {
  const trigger = user.eventfd();
  expect(user.trigger(index, trigger)).toBe('ok');
  return trigger;
}

/** The events of a trace, with the fields asked for: `signal add=1`. */
export function told(mdev: SampleMdev, event: string, ...fields: readonly string[]): readonly string[] {
  return mdev.trace().filter((line) => line.event === event).map((line) => fields.map((field) => `${field}=${line.fields[field] ?? ''}`).join(' '));
}
