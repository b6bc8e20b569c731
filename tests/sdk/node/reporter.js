'use strict';
// What a test run says, in the words that tests/run counts: failures whole, skips by name, and the sum.
const { inspect } = require('node:util');

module.exports = async function* report(events) {
  let passed = 0, failed = 0;
  const started = Date.now();
  for await (const { type, data } of events) {
    if (type === 'test:stdout' || type === 'test:stderr') yield data.message;
    if (type !== 'test:pass' && type !== 'test:fail') continue;
    // A file counts only for what failed outside its tests.
    const isFile = data.details.type === 'suite' || /\.test\.js$/.test(data.name);
    if (type === 'test:fail') {
      failed += 1;
      yield `FAIL ${data.name}\n${inspect(data.details.error.cause || data.details.error)}\n`;
    } else if (data.skip !== undefined) {
      yield `skipped: ${data.name} (${data.skip})\n`;
    } else if (!isFile) {
      passed += 1;
    }
  }
  yield `${passed} passed, ${failed} failed in ${((Date.now() - started) / 1000).toFixed(1)} s\n`;
};
