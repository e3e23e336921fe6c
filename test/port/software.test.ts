import { softwareHarness } from './software-harness.js';
import { describePort } from './suite.js';

describePort('software', softwareHarness());
describePort('software, device_state of v1,', softwareHarness({ device: { migrationVersion: 1 } }));
