// Stack traces as Node prints them, between ordinary lines.
'use strict';

class Declined extends Error {
  constructor(message, options) {
    super(message, options);
    this.name = 'Declined';
    this.code = 4711;
  }
}

function charge(card) {
  try {
    return JSON.parse(card);
  } catch (cause) {
    throw new Declined('card is not known', { cause });
  }
}

function order() {
  return charge('visa');
}

console.error('begins');
try {
  order();
} catch (err) {
  console.error(err.stack);
}
console.error('goes on');
try {
  order();
} catch (err) {
  console.error(err);
}
console.error('a file is not there');
try {
  require('fs').readFileSync('/none');
} catch (err) {
  console.error(err);
}
console.error('the end');
if (process.argv[2] === 'reject') {
  Promise.reject(new Declined('nobody caught it'));
} else {
  order();
}
