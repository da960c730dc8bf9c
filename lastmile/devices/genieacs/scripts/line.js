// Lastmile: keep the parameters of a CPE in service. Written by `lastmile acs setup` from the controller's options.
const byProductClass = {values_by_product_class};
const byDataModel = {values_by_data_model};
const productClass = declare("DeviceID.ProductClass", {value: 1}).value;
const values = (productClass && byProductClass[productClass[0]]) || byDataModel;
for (const path of Object.keys(values)) {
  declare(path, {value: Date.now()}, {value: values[path]});
}
