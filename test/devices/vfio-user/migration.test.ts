import { afterAll, describe, it } from 'vitest';
import { describeMigration, deviceMigrationHarness, sampleState } from '../../../src/testing/index.js';
import { OtherProcess } from '../../support/vfio-user/other-process.js';

const other = new OtherProcess();
afterAll(() => other.dispose());

/** Every way of device_state, by messages; the same device all the time, opened by its address for each rule. */
for (const flags of [1, 5, 7]) {
  describeMigration({ describe, it }, `vfio-user, flags ${flags},`, deviceMigrationHarness(`vfio-user:${other.serve({ remap: false, migration: flags }).path}`, { destructive: true, state: sampleState }));
}
