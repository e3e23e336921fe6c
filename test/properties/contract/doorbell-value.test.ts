import { describeRow } from './suite.js';

describeRow('doorbell, value');
