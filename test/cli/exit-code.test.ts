import { expect, it } from 'vitest';
import { exitCodes } from '../../src/cli/commands.js';
import { codeWhenLost } from '../../src/cli/exit-code.js';

it.each(['migrate', 'receive', 'resolve'])('what %s ends with says where the devices are: lost output changes nothing of it', (command) => {
  for (const code of Object.values(exitCodes)) expect(codeWhenLost([command, '--json'], code)).toBe(code);
});

it('any other command whose output is lost has failed', () => {
  expect(codeWhenLost(['list'], 0)).toBe(exitCodes.failed);
  expect(codeWhenLost([], 0)).toBe(exitCodes.failed);
});
