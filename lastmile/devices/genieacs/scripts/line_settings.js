
// What Lastmile says of the line. A fault here is a fault of the channel lastmile-line, and GenieACS tries again.
const settingsByProductClass = {settings_by_product_class};
const settingsByDataModel = {settings_by_data_model};
const settings = (productClass && settingsByProductClass[productClass[0]]) || settingsByDataModel;
const names = ["DeviceID.OUI", "DeviceID.ProductClass", "DeviceID.SerialNumber", {mac_parameter}].map((path) => {
  const found = declare(path, {value: 1}).value;
  return found ? found[0] : "";
});
const line = ext("lastmile", "line", ...names);
const paths = Object.keys(settings);
// A CPE shows no password. GenieACS compares with its own copy instead: otherwise each session would set the password
// again, and some CPEs drop PPP then. A CPE that has lost its user name, as by a reset without notice, has lost both.
const lost = paths.some((path) => {
  const found = settings[path] === "ppp_username" && declare(path, {value: Date.now()}).value;
  return found && found[0] !== line.ppp_username;
});
for (const path of paths) {
  const value = line[settings[path]];
  const read = settings[path] === "ppp_password" && !lost ? 1 : Date.now();
  if (value !== null) declare(path, {value: read}, {value: value});
}
