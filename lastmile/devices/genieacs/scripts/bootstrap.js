// Lastmile: forget what GenieACS knew of the CPE before its factory reset.
clear("Device", Date.now());
clear("InternetGatewayDevice", Date.now());
