// PM2's command, for many orders: each is a line of JSON, the words that follow `pm2`, and has a line for answer.
//
// The command itself takes a fifth of a second of a processor to start, most of it to read its own modules.
'use strict';

const readline = require('readline');
const PM2 = require('pm2/lib/API.js');

// What is printed while an order is carried out is its answer.
let said = [];
const answer = process.stdout.write.bind(process.stdout);
for (const stream of [process.stdout, process.stderr]) {
  stream.write = (text) => {
    said.push(String(text));
    return true;
  };
}

function orderFrom(pm2, verb, names) {
  switch (verb) {
    case 'jlist':
      return (done) =>
        pm2.Client.executeRemote('getMonitorData', {}, (error, list) => {
          if (!error) said = [JSON.stringify(list)];
          done(error);
        });
    case 'kill':
      return (done) => pm2.killDaemon(done);
    case 'start':
    case 'stop':
    case 'restart':
    case 'reload':
    case 'delete':
      return async (done) => {
        for (const name of names) {
          const error = await new Promise((resolve) =>
            verb === 'stop' || verb === 'delete' ? pm2[verb](name, resolve) : pm2[verb](name, {}, resolve),
          );
          if (error) return done(error);
        }
        return done(null);
      };
    default:
      return (done) => done(new Error(`pm2 ${verb} is no order of the sandbox's`));
  }
}

function carryOut([verb, ...names]) {
  return new Promise((resolve) => {
    // One of its own each time: the daemon may be another one than at the last order.
    const pm2 = new PM2();
    const end = (error) => {
      if (error) said.push(String(error.message || error));
      pm2.disconnect(() => resolve(!error));
    };
    pm2.connect((error) => (error ? end(error) : orderFrom(pm2, verb, names)(end)));
  });
}

async function main() {
  for await (const line of readline.createInterface({ input: process.stdin })) {
    said = [];
    const worked = await carryOut(JSON.parse(line));
    answer(`${JSON.stringify({ worked, said: said.join('\n') })}\n`);
  }
  process.exit(0);
}

main();
