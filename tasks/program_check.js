// Parse the application's program without running any of it: the entry file and what it requires by a path of
// its own, from file to file. Called with the directory and the entry file; prints one line of JSON.
// What a file that is not required by a fixed path looks like, as a page's script in JSX, is nobody's concern.
'use strict';

const { spawnSync } = require('node:child_process');
const fs = require('node:fs');
const { createRequire } = require('node:module');
const path = require('node:path');
const vm = require('node:vm');

const MOST_FILES = 1000;
const MOST_ERRORS = 5;
const MILLISECONDS = 2500;
const WRAPPER = ['exports', 'require', 'module', '__filename', '__dirname'];
const REQUIRED =
  /\b(?:require|import)\s*\(\s*(['"`])(\.[^'"`$\n]*)\1\s*\)|\b(?:from|import)\s*(['"])(\.[^'"\n]*)\3/g;
// At the beginning of a line nothing stands around it that would catch the error, or make it depend.
const ALWAYS = /^(?:const|let|var|import|export|require|module\.exports)\b/;

const root = fs.realpathSync(process.argv[2]);
const found = { files: [], syntax: [], missing: [], refused: [] };
const types = new Map();

function say(file) {
  return path.relative(root, file).split(path.sep).join('/');
}

function typeOf(file) {
  const extension = path.extname(file);
  if (extension !== '.js') return extension === '.mjs' ? 'module' : 'commonjs';
  for (let folder = path.dirname(file); ; folder = path.dirname(folder)) {
    if (!types.has(folder)) types.set(folder, readType(folder));
    if (types.get(folder) !== null) return types.get(folder);
    if (folder === path.dirname(folder)) return 'unsaid';
  }
}

function readType(folder) {
  try {
    return JSON.parse(fs.readFileSync(path.join(folder, 'package.json'), 'utf8')).type ?? 'unsaid';
  } catch (error) {
    return error.code === 'ENOENT' ? null : 'unsaid';
  }
}

function detectsModules() {
  const [major, minor] = process.versions.node.split('.').map(Number);
  return major > 22 || (major === 22 && minor >= 7) || (major === 20 && minor >= 19);
}

function errorOfScript(source, file) {
  try {
    vm.compileFunction(source, WRAPPER, { filename: file });
    return null;
  } catch (error) {
    const [first] = String(error.stack).split('\n');
    return { message: error.message, line: first.startsWith(file) ? lineIn(first) : null };
  }
}

function errorOfModule(source, file) {
  try {
    new vm.SourceTextModule(source, { identifier: file });
    return null;
  } catch (error) {
    return { message: error.message, line: null };
  }
}

function lineIn(text) {
  const number = /:(\d+)$/.exec(text.trim());
  return number === null ? null : Number(number[1]);
}

// Of a module, only Node's own check says where the error is.
function findLineOfModule(source) {
  const checked = spawnSync(process.execPath, ['--check', '--input-type=module', '-'], {
    input: source,
    encoding: 'utf8',
    timeout: 1000,
  });
  return lineIn((checked.stderr ?? '').split('\n')[0]);
}

function errorOf(source, file) {
  if (path.extname(file) === '.json') {
    try {
      JSON.parse(source.replace(/^\uFEFF/, ''));
      return null;
    } catch {
      // Its message would quote the file.
      return { message: 'It is no JSON', line: null };
    }
  }
  const type = typeOf(file);
  const asScript = type === 'module' ? null : errorOfScript(source, file);
  if (type !== 'module' && asScript === null) return null;
  if (type === 'commonjs') return asScript;
  const asModule = errorOfModule(source, file);
  if (asModule === null) return type === 'module' || detectsModules() ? null : asScript;
  const isModule = type === 'module' || /import statement|import\.meta|token 'export'/.test(asScript.message);
  return isModule ? { ...asModule, line: findLineOfModule(source) } : asScript;
}

function listRequired(source, file) {
  const resolve = createRequire(file).resolve;
  const required = [];
  for (const match of source.matchAll(REQUIRED)) {
    const wanted = match[2] ?? match[4];
    try {
      required.push(resolve(wanted));
    } catch (error) {
      const start = source.lastIndexOf('\n', match.index) + 1;
      if (error.code === 'MODULE_NOT_FOUND' && ALWAYS.test(source.slice(start))) {
        found.missing.push({ name: say(path.resolve(path.dirname(file), wanted)), wantedBy: say(file) });
      }
    }
  }
  return required;
}

function isOfProgram(file) {
  const below = path.relative(root, file);
  return (
    !below.startsWith('..') &&
    !path.isAbsolute(below) &&
    !below.split(path.sep).includes('node_modules') &&
    ['.js', '.cjs', '.mjs', '.json'].includes(path.extname(file))
  );
}

function check(file) {
  let source;
  try {
    source = fs.readFileSync(file, 'utf8');
  } catch (error) {
    found.refused.push({ name: say(file), code: error.code });
    return [];
  }
  found.files.push(say(file));
  const error = errorOf(source, file);
  if (error !== null) found.syntax.push({ name: say(file), ...error });
  return path.extname(file) === '.json' ? [] : listRequired(source, file);
}

const entry = path.join(root, process.argv[3]);
const waiting = [fs.existsSync(entry) ? fs.realpathSync(entry) : entry];
const seen = new Set(waiting);
const deadline = Date.now() + MILLISECONDS;
while (waiting.length > 0 && found.syntax.length < MOST_ERRORS && Date.now() < deadline) {
  for (const next of check(waiting.shift())) {
    if (!seen.has(next) && seen.size < MOST_FILES && isOfProgram(next)) {
      seen.add(next);
      waiting.push(next);
    }
  }
}
console.log(JSON.stringify(found));
