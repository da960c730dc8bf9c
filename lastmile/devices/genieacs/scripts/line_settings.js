
// What Lastmile says of the line. A fault here is a fault of the channel lastmile-line, and GenieACS tries again.
const settingsByProductClass = {settings_by_product_class};
const settingsByDataModel = {settings_by_data_model};
const settings = (productClass && settingsByProductClass[productClass[0]]) || settingsByDataModel;
const names = ["DeviceID.OUI", "DeviceID.ProductClass", "DeviceID.SerialNumber", {mac_parameter}].map((path) => {
  const found = declare(path, {value: 1}).value;
  return found ? found[0] : "";
});
const line = ext("lastmile", "line", ...names);
for (const path of Object.keys(settings)) {
  const value = line[settings[path]];
  // A CPE shows no password. GenieACS compares with its own copy instead, which the bootstrap provision clears: otherwise
  // each session would set the password again, and some CPEs drop PPP then.
  const read = settings[path] === "ppp_password" ? 1 : Date.now();
  if (value !== null) declare(path, {value: read}, {value: value});
}
