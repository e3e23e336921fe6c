import { describe, it } from 'vitest';
import { describePort, softwarePortHarness } from '../../src/testing/index.js';

describePort({ describe, it }, 'software', softwarePortHarness());
describePort({ describe, it }, 'software, device_state of v1,', softwarePortHarness({ device: { migrationVersion: 1 } }));
