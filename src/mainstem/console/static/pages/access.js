/** Access: users, who may do what, masked fields, quotas, API tokens, and the audit. */

import { canUse, clusterInfo, currentUser, managesCluster } from "../lib/api.js";
import { h } from "../lib/dom.js";
import { updateParams } from "../lib/router.js";
import { AuditView } from "../widgets/audit_view.js";
import { MaskingView } from "../widgets/masking_view.js";
import { QuotasView } from "../widgets/quotas_view.js";
import { RightsView } from "../widgets/rights_view.js";
import { Tabs } from "../widgets/tabs.js";
import { TokensView } from "../widgets/tokens_view.js";
import { UsersView } from "../widgets/users_view.js";

const TABS = [
  { id: "users", text: "Users", isOffered: () => canUse("get", "users"), create: () => new UsersView() },
  { id: "rights", text: "Rights", isOffered: () => canUse("get", "acls"), create: () => new RightsView() },
  {
    id: "masking",
    text: "Masked fields",
    isOffered: () => canUse("get", "masking-rules"),
    create: () => new MaskingView(),
  },
  {
    id: "quotas",
    text: "Quotas",
    isOffered: () => clusterInfo().client_quotas && canUse("get", "quotas"),
    create: () => new QuotasView(),
  },
  { id: "tokens", text: "API tokens", isOffered: hasTokens, create: () => new TokensView() },
  {
    id: "audit",
    text: "Audit",
    isOffered: () => canUse("get", "users") && canUse("post", "search"),
    create: () => new AuditView(),
  },
];

/** Who has logged in has tokens of their own; who may change the cluster manages those of all. */
function hasTokens() {
  const { principal, needs_login: needsLogin } = currentUser();
  const isPerson = Boolean(needsLogin && principal?.startsWith("User:"));
  return clusterInfo().api_tokens && (isPerson || managesCluster());
}

const offeredTabs = () => TABS.filter(({ isOffered }) => isOffered());

/** Whether there is anything on this page for who is logged in. */
export const isAccessOffered = () => offeredTabs().length > 0;

export class AccessPage {
  title = "Access";
  #tabs;

  constructor(_segments, params) {
    this.#tabs = new Tabs(offeredTabs(), params.get("tab") ?? "", (tab) => updateParams({ tab }));
    this.element = h(
      "div",
      {},
      h("div.page-head", {}, h("h1", {}, "Access")),
      this.#tabs.list,
      h("div.page-body", {}, this.#tabs.panel),
    );
  }

  close() {
    this.#tabs.close();
  }
}
