import { afterAll, describe, it } from 'vitest';
import { describePort } from '../../src/testing/index.js';
import { OtherProcess } from '../support/vfio-user/other-process.js';
import { vfioUserHarness } from '../support/vfio-user/port-harness.js';

const other = new OtherProcess();
afterAll(() => other.dispose());

describePort({ describe, it }, 'vfio-user', vfioUserHarness(other));
