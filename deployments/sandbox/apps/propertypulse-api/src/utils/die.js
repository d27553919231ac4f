'use strict';
// End with a last word. In PM2's cluster mode the log travels by message: an exit at once would lose it.

const FLUSH_MS = 100;

function die(message) {
  console.error(`❌ ${message}`);
  setTimeout(() => process.exit(1), FLUSH_MS);
}

module.exports = { die };
