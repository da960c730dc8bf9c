"use strict";

// Lastmile's extension of GenieACS: asks Lastmile's REST API what a CPE must be set to.
//
// GenieACS reads extensions from the directory GENIEACS_EXT_DIR. Copy this file there as lastmile.js, and set in the
// environment of genieacs-cwmp:
//   LASTMILE_API_URL    the address of the API, as in https://api.example.net
//   LASTMILE_API_TOKEN  an API key with the permission acs:read

const http = require("http");
const https = require("https");

// GenieACS gives an extension three seconds by default. An error of this file says more than a timeout there.
const TIMEOUT_MS = (Number(process.env.GENIEACS_EXT_TIMEOUT) || 3000) - 500;

// The names of a CPE, as the provision passes them: empty where the CPE has none.
exports.line = function (names, callback) {
  const [oui, productClass, serial, mac] = names;
  const query = new URLSearchParams({ oui: oui, serial: serial });
  if (productClass) query.set("product_class", productClass);
  if (mac) query.set("mac", mac);

  let url;
  try {
    url = new URL(`${process.env.LASTMILE_API_URL.replace(/\/+$/, "")}/v1/acs/cpe-settings?${query}`);
  } catch (error) {
    callback(new Error("LASTMILE_API_URL is not the address of Lastmile's API"));
    return;
  }
  const headers = { Authorization: `Bearer ${process.env.LASTMILE_API_TOKEN}` };
  const request = (url.protocol === "https:" ? https : http).get(url, { headers: headers }, (answer) => {
    let body = "";
    answer.setEncoding("utf8");
    answer.on("data", (text) => (body += text));
    answer.on("end", () => {
      clearTimeout(timer);
      const read = parsed(body);
      if (answer.statusCode === 200 && read) callback(null, read);
      else callback(new Error(`Lastmile answers ${answer.statusCode}: ${(read && read.detail) || "no answer of its API"}`));
    });
    answer.on("error", lost);
  });
  const timer = setTimeout(() => request.destroy(new Error("no answer in time")), TIMEOUT_MS);
  request.on("error", lost);

  function lost(error) {
    clearTimeout(timer);
    callback(new Error(`Lastmile does not answer at ${url.origin}: ${error.message}`));
  }
};

function parsed(body) {
  try {
    return JSON.parse(body);
  } catch (error) {
    return null;
  }
}
