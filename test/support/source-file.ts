import ts from 'typescript';

/** By text: every rule goes through the same files. */
const parsed = new Map<string, readonly ts.Node[]>();

/** Every node of a file, those of its JSDoc too: types are imported there. */
function nodesOf(file: string, text: string): readonly ts.Node[] {
  const known = parsed.get(text);
  if (known !== undefined) return known;
  const source = ts.createSourceFile(file, text, ts.ScriptTarget.ESNext, true);
  const nodes: ts.Node[] = [];
  const visit = (node: ts.Node): void => {
    // Punctuation and the like says nothing; keywords do.
    if (node.kind > ts.SyntaxKind.LastPunctuation || ts.isStringLiteralLike(node)) nodes.push(node);
    for (const child of node.getChildren(source)) visit(child);
  };
  visit(source);
  parsed.set(text, nodes);
  return nodes;
}

/**
 * Every string of a file. Whatever way another module is named in (import, export from, import(), a type, createRequire
 * under any name, new URL), the name is one of these; no way needs to be known.
 */
export function stringsIn(file: string, text: string): readonly string[] {
  return nodesOf(file, text).filter((node) => ts.isStringLiteralLike(node)).map((node) => node.text);
}

/** Modules whose name is made at run time, so that nobody can look it up here. */
export function computedImportsIn(file: string, text: string): readonly string[] {
  return nodesOf(file, text)
    .filter((node) => ts.isCallExpression(node))
    .filter((call) => isLoader(call.expression))
    .filter(({ arguments: [name] }) => name === undefined || !ts.isStringLiteralLike(name))
    .map((call) => call.getText());
}

function isLoader(called: ts.Expression): boolean {
  if (called.kind === ts.SyntaxKind.ImportKeyword || called.getText() === 'require') return true;
  return ts.isCallExpression(called) && called.expression.getText() === 'createRequire';
}

/** `export default`, `export =`, and `default` as the name of whatever is exported. */
export function defaultExportsIn(file: string, text: string): readonly string[] {
  return nodesOf(file, text).filter(isDefaultExport).map((node) => node.parent.getText());
}

function isDefaultExport(node: ts.Node): boolean {
  if (ts.isExportAssignment(node)) return true;
  if (ts.isExportSpecifier(node) || ts.isNamespaceExport(node)) return node.name.text === 'default';
  // The modifier of a class or function, and not the clause of a switch.
  return node.kind === ts.SyntaxKind.DefaultKeyword && ts.isDeclarationStatement(node.parent);
}

/** What makes a Promise, asks for one, or defers to the queue of their callbacks. */
const promising = new Set(['Promise', 'PromiseLike', 'firstValueFrom', 'lastValueFrom', 'queueMicrotask', 'nextTick', 'toPromise', 'fromAsync']);
const settling = new Set(['then', 'catch', 'finally']);

/** Where a file has to do with Promises: the function or member around it, and what it says. An import is not a use, unless it renames. */
export function promisesIn(file: string, text: string): readonly { readonly within: string; readonly what: string }[] {
  return nodesOf(file, text)
    .map((node) => ({ node, what: promiseAt(node) }))
    .flatMap(({ node, what }) => (what === undefined || inComment(node) ? [] : [{ within: memberAround(node), what }]));
}

function promiseAt(node: ts.Node): string | undefined {
  if (node.kind === ts.SyntaxKind.AsyncKeyword || node.kind === ts.SyntaxKind.AwaitKeyword) return node.getText();
  if (node.kind === ts.SyntaxKind.ImportKeyword && ts.isCallExpression(node.parent)) return 'import()';
  if (ts.isElementAccessExpression(node) && ts.isStringLiteralLike(node.argumentExpression)) return promisingName(node.argumentExpression.text);
  if (!ts.isIdentifier(node)) return undefined;
  if (ts.isImportSpecifier(node.parent) && node.parent.propertyName === undefined) return undefined;
  if (promising.has(node.text)) return node.text;
  return ts.isPropertyAccessExpression(node.parent) && node.parent.name === node ? promisingName(node.text) : undefined;
}

function promisingName(name: string): string | undefined {
  return promising.has(name) || settling.has(name) ? name : undefined;
}

function inComment(node: ts.Node): boolean {
  return ts.findAncestor(node, (around) => ts.isJSDoc(around)) !== undefined;
}

function memberAround(node: ts.Node): string {
  const member = ts.findAncestor(node, (around) => ts.isClassElement(around) || ts.isFunctionDeclaration(around));
  return member?.name?.getText() ?? 'the module';
}
