import { describeRow } from './suite.js';

describeRow('rfc-v4, write-zero');
