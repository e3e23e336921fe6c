import type { RuleResult } from './rule.js';

/** The results as JUnit XML, which CI systems read: one suite, a case for each rule. */
export function junitOf(suite: string, results: readonly RuleResult[]): string {
  const count = (outcome: RuleResult['outcome']): number => results.filter((result) => result.outcome === outcome).length;
  const head = `<testsuite name="${escaped(suite)}" tests="${results.length}" failures="${count('failed')}" skipped="${count('skipped')}">`;
  return ['<?xml version="1.0" encoding="UTF-8"?>', head, ...results.map((result) => `  ${caseOf(suite, result)}`), '</testsuite>', ''].join('\n');
}

/** The results as lines that a person reads, and a last one that counts. */
export function linesOf(results: readonly RuleResult[]): readonly string[] {
  return [...results.map(lineOf), summaryOf(results)];
}

export function summaryOf(results: readonly RuleResult[]): string {
  return (['passed', 'failed', 'skipped'] as const).map((outcome) => `${results.filter((result) => result.outcome === outcome).length} ${outcome}`).join(', ');
}

/** One result as a line. */
export function lineOf({ rule, title, outcome, reason }: RuleResult): string {
  return `${outcome.padEnd(7)} ${rule}: ${title}${reason === undefined ? '' : ` (${reason})`}`;
}

function caseOf(suite: string, { rule, title, outcome, reason = '' }: RuleResult): string {
  const open = `<testcase classname="${escaped(suite)}" name="${escaped(`${rule}: ${title}`)}"`;
  if (outcome === 'passed') return `${open}/>`;
  return `${open}><${outcome === 'failed' ? 'failure' : 'skipped'} message="${escaped(reason)}"/></testcase>`;
}

const entities: Readonly<Record<string, string>> = { '&': '&amp;', '<': '&lt;', '>': '&gt;', '"': '&quot;', '\n': '&#10;', '\t': '&#9;' };

/** XML 1.0 has no place for control characters, however they are written. */
function escaped(text: string): string {
  return text.replaceAll(/[&<>"\n\t]/g, (sign) => entities[sign] ?? sign).replaceAll(/[\u0000-\u001f]/g, '\ufffd');
}
