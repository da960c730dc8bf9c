"use strict";

// Runs a provision as GenieACS does: from its beginning again when an answer of an extension has arrived.
// Standard input is {script, known: {path: value}}. Standard output is {declared: [{path, read, value}], fault}.

const input = JSON.parse(require("fs").readFileSync(0, "utf8"));
const answers = new Map();

class Pending {
  constructor(key, call) {
    Object.assign(this, { key, call });
  }
}

async function run() {
  for (;;) {
    const declared = [];
    const declare = (path, timestamps, values) => {
      declared.push({ path, read: timestamps && timestamps.value, value: values && values.value });
      return { value: path in input.known ? [input.known[path], "xsd:string"] : undefined };
    };
    const ext = (file, name, ...args) => {
      const key = JSON.stringify([file, name, ...args]);
      if (!answers.has(key)) {
        throw new Pending(key, (done) => require(`${process.env.GENIEACS_EXT_DIR}/${file}`)[name](args, done));
      }
      return answers.get(key);
    };
    try {
      new Function("declare", "ext", "clear", "log", input.script)(declare, ext, () => {}, () => {});
      return { declared };
    } catch (pending) {
      if (!(pending instanceof Pending)) throw pending;
      const [fault, answer] = await new Promise((done) => pending.call((...given) => done(given)));
      if (fault) return { declared: [], fault: fault.message };
      answers.set(pending.key, answer);
    }
  }
}

run().then((result) => console.log(JSON.stringify(result)));
