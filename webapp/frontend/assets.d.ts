// Style sheets that modules import.
declare module "*.css";
