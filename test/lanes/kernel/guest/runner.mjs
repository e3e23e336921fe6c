import { writeFileSync } from 'node:fs';
import { isAbsolute, relative } from 'node:path';

import { startTests } from '@vitest/runner';
import { getFullName, getTests } from '@vitest/runner/utils';

import { checkAssertions, createExpect, expect, resetAssertions } from './vitest.mjs';

/**
 * Runs the bundled test files in this one process and writes the outcome where VFIO_RX_RESULTS says. The file is
 * written before and after every test: a guest that crashes or hangs in the middle still tells what it was doing.
 *
 * @typedef {import('../../outcome.mjs').Outcome & { running: string | undefined, complete: boolean }} Progress
 */

/** An emulated processor is ten to thirty times slower; tests that need less or more say so themselves. */
const DEFAULT_TIMEOUT_MS = 90_000;

/** Frames of the machinery, which say nothing about the test. */
const NOISE = /node_modules|node:internal|tests-entry|\/bundle\/tests\.mjs|at new Promise|at Reflect\.|guest\/(runner|vitest)\.mjs/;

/**
 * @param {string} root the repository's root
 * @param {Record<string, () => Promise<unknown>>} files test files (relative to the root) and how to load them
 */
export async function runTests(root, files) {
  const pattern = process.env['VFIO_RX_TEST_NAME'];
  const report = new Report(root, process.env['VFIO_RX_RESULTS']);
  process.on('uncaughtException', (error) => report.broken('outside of any test', error));
  process.on('unhandledRejection', (error) => report.broken('outside of any test (unhandled rejection)', error));
  // Nothing else may keep the loop alive while a test waits for an event of the kernel.
  const alive = setInterval(() => undefined, 1 << 30);

  /**
   * A test may take its `expect` from its context; then that one counts its assertions.
   *
   * @type {WeakMap<import('@vitest/runner').Test, import('@vitest/expect').ExpectStatic>}
   */
  const ownExpects = new WeakMap();

  /** @type {import('@vitest/runner').VitestRunner} */
  const runner = {
    config: {
      root,
      setupFiles: [],
      name: undefined,
      passWithNoTests: false,
      testNamePattern: pattern === undefined ? undefined : new RegExp(pattern),
      allowOnly: process.env['CI'] === undefined,
      sequence: { seed: 0, hooks: 'stack', setupFiles: 'list' },
      chaiConfig: undefined,
      maxConcurrency: 5,
      testTimeout: DEFAULT_TIMEOUT_MS,
      hookTimeout: DEFAULT_TIMEOUT_MS,
      retry: 0,
      includeTaskLocation: false,
      tags: [],
      tagsFilter: undefined,
      strictTags: false,
    },
    importFile: (path) => files[path.startsWith(root) ? relative(root, path) : path]?.(),
    extendTaskContext: (context) => {
      const own = () => {
        const handedOut = ownExpects.get(context.task) ?? createExpect(context.task);
        ownExpects.set(context.task, handedOut);
        return handedOut;
      };
      Object.defineProperty(context, 'expect', { get: own });
      return context;
    },
    onBeforeTryTask: () => resetAssertions(),
    onAfterTryTask: (test) => checkAssertions(ownExpects.get(test) ?? expect),
    onBeforeRunTask: (test) => report.started(test),
    onAfterRunTask: (test) => report.ended(test),
    onCollected: (collected) => report.collected(collected),
  };
  const finished = await startTests(Object.keys(files).map((file) => `${root}/${file}`), runner);
  report.finish(finished);
  clearInterval(alive);
  // A thread stuck in a system call, or a handle that a test forgot, must not keep the machine running.
  process.exit(report.outcome.failures.length === 0 ? 0 : 1);
}

class Report {
  /** @type {Progress} */
  outcome = { passed: 0, failures: [], skips: [], running: undefined, complete: false };

  /**
   * @param {string} root
   * @param {string | undefined} path
   */
  constructor(root, path) {
    this.root = root;
    this.path = path;
  }

  /** @param {import('@vitest/runner').File[]} files */
  collected(files) {
    for (const file of files) {
      for (const error of file.result?.errors ?? []) this.failed(`${this.nameOfFile(file)} (loading)`, error);
      if (file.result?.errors === undefined && getTests(file).length === 0) {
        this.failed(this.nameOfFile(file), { message: 'the file has no test' });
      }
    }
  }

  /** @param {import('@vitest/runner').Test} test */
  started(test) {
    this.outcome.running = this.nameOf(test);
    this.write();
  }

  /** @param {import('@vitest/runner').Test} test */
  ended(test) {
    const name = this.nameOf(test);
    const duration = `${Math.round(test.result?.duration ?? 0)} ms`;
    this.outcome.running = undefined;
    if (test.result?.state === 'pass') {
      this.outcome.passed += 1;
      console.log(` ✓ ${name} ${duration}`);
    } else {
      console.log(` ✗ ${name} ${duration}`);
      const errors = test.result?.errors ?? [];
      const text = errors.length === 0 ? 'no reason was recorded' : errors.map((error) => this.describe(error)).join('\n');
      this.outcome.failures.push({ test: name, message: text, shown: true });
      console.log(indent(text));
    }
    this.write();
  }

  /**
   * @param {string} test
   * @param {unknown} error
   */
  broken(test, error) {
    this.failed(this.outcome.running === undefined ? test : `${test}, during ${this.outcome.running}`, error);
  }

  /**
   * @param {string} test
   * @param {unknown} error
   */
  failed(test, error) {
    const message = this.describe(error);
    this.outcome.failures.push({ test, message, shown: true });
    console.log(` ✗ ${test}\n${indent(message)}`);
    this.write();
  }

  /**
   * What only shows at the end: tests that were skipped, and hooks of suites that failed.
   *
   * @param {import('@vitest/runner').File[]} files
   */
  finish(files) {
    for (const file of files) {
      this.#suiteErrors(file);
      for (const test of getTests(file)) {
        if (test.mode !== 'skip' && test.mode !== 'todo') continue;
        // Deselected by name: that is not a skip that anybody needs to hear of.
        if (test.result === undefined && process.env['VFIO_RX_TEST_NAME'] !== undefined) continue;
        this.outcome.skips.push({ test: this.nameOf(test), reason: reasonOf(test) });
      }
    }
    this.outcome.complete = true;
    this.write();
  }

  /** @param {import('@vitest/runner').Suite} suite */
  #suiteErrors(suite) {
    const loading = 'filepath' in suite && getTests(suite).length === 0;
    if (!loading) {
      for (const error of suite.result?.errors ?? []) this.failed(`${this.nameOf(suite)} (hook)`, error);
    }
    for (const task of suite.tasks) if (task.type === 'suite') this.#suiteErrors(task);
  }

  /** @param {import('@vitest/runner').Task} task */
  nameOf(task) {
    return getFullName(task, ' > ');
  }

  /** @param {import('@vitest/runner').File} file */
  nameOfFile(file) {
    return isAbsolute(file.filepath) ? relative(this.root, file.filepath) : file.filepath;
  }

  /**
   * The error with its stack in terms of the sources, without the frames of the runner.
   *
   * @param {unknown} error
   * @returns {string}
   */
  describe(error) {
    if (typeof error !== 'object' || error === null) return String(error);
    const { message, name, stack, diff, cause } = /** @type {{ [key: string]: unknown }} */ (error);
    const lines = [`${typeof name === 'string' ? name : 'Error'}: ${String(message)}`];
    if (typeof diff === 'string') lines.push(diff);
    if (typeof stack === 'string') {
      const frames = stack.split('\n').filter((line) => /^\s+at /.test(line));
      lines.push(...frames.filter((line) => !NOISE.test(line)).map((line) => line.replaceAll(`${this.root}/`, '')));
    }
    if (cause !== undefined) lines.push(`caused by ${this.describe(cause)}`);
    return lines.join('\n');
  }

  write() {
    if (this.path !== undefined) writeFileSync(this.path, JSON.stringify(this.outcome));
  }
}

/** @param {import('@vitest/runner').Test} test */
function reasonOf(test) {
  // Where `skip('why')` inside a test leaves its reason; not in the public type.
  /** @type {unknown} */
  const note = test.result === undefined ? undefined : Reflect.get(test.result, 'note');
  if (typeof note === 'string') return note;
  if (test.mode === 'todo') return 'not written yet';
  return test.suite?.result?.errors === undefined ? 'no reason given' : 'a hook of its suite failed';
}

/** @param {string} text */
function indent(text) {
  return text.replaceAll(/^/gm, '     ');
}
