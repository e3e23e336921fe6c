import { afterAll, describe, it } from 'vitest';
import { describeDevice, deviceMigrationHarness } from '../../../src/testing/index.js';
import { OtherProcess } from '../../support/vfio-user/other-process.js';

const other = new OtherProcess();
afterAll(() => other.dispose());

/** What a driver promises, by messages: opened by its address for each rule. Its layouts never change here. */
describeDevice({ describe, it }, 'vfio-user,', deviceMigrationHarness(`vfio-user:${other.serve({ remap: false, dmaLogging: 4096 }).path}`, { destructive: true }));
