import { expect, it } from 'vitest';
import { exitCodes } from '../../src/cli/commands.js';
import { codeOfFailure } from '../../src/cli/exit-code.js';

it.each(['migrate', 'receive', 'resolve'])('what %s has said that it ends with says where the devices are: a failure after that changes nothing of it', (command) => {
  for (const code of Object.values(exitCodes)) expect(codeOfFailure([command, '--json'], code)).toBe(code);
  expect(codeOfFailure([command, '--json'], undefined)).toBe(exitCodes.failed);
});

it('any other command that fails at any time has failed', () => {
  for (const args of [['list'], []]) expect([undefined, 0].map((told) => codeOfFailure(args, told))).toEqual([exitCodes.failed, exitCodes.failed]);
});
