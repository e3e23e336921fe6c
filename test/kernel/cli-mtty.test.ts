import { expect, it } from 'vitest';
import { doctor, info, listed } from '../support/looking.js';
import { Mtty } from '../support/mtty.js';

it('list, doctor and info know mtty', { timeout: 60_000 }, async () => {
  using mtty = new Mtty();
  expect(listed()).toContainEqual(expect.objectContaining({ device: mtty.uuid, kind: 'mdev', ready: true }));
  expect(doctor(mtty.uuid)).toMatchObject({ code: 0, wrong: [] });
  expect(await info(mtty.uuid)).toMatchObject({ irqs: expect.arrayContaining([expect.objectContaining({ kind: 'msi' })]) as unknown, config: { vendorId: 0x4348 } });
});
