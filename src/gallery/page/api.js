// The requests of the page. Every error becomes an Error with the service's own words.

const tokenKey = "tripletboard-token";

async function request(method, path, body) {
  const headers = {};
  const token = sessionStorage.getItem(tokenKey);
  if (token) headers.Authorization = `Bearer ${token}`;
  // What is removed when the page is closed would otherwise stay.
  const response = await fetch(path, { method, body, headers, keepalive: method === "DELETE" });
  if (response.status === 401 && (await askForToken())) return request(method, path, body);
  if (!response.ok) {
    const { detail } = await response.json().catch(() => ({ detail: response.statusText }));
    throw new Error(typeof detail === "string" ? detail : detail.map((d) => d.msg).join("; "));
  }
  return response.json();
}

let asking = null; // one dialog for all requests that wait for the token

function askForToken() {
  asking ??= answered().finally(() => { asking = null; });
  return asking;
}

function answered() {
  const dialog = document.getElementById("token-dialog");
  const input = document.getElementById("token");
  dialog.returnValue = ""; // closed by Esc, it would keep that of the last time
  dialog.showModal();
  return new Promise((resolve) => {
    dialog.addEventListener("close", () => {
      if (dialog.returnValue === "ok") sessionStorage.setItem(tokenKey, input.value);
      input.value = "";
      resolve(dialog.returnValue === "ok");
    }, { once: true });
  });
}

const ofClass = (name) => `classes/${encodeURIComponent(name)}`;

function form(fields) {
  const data = new FormData();
  for (const [key, value, ...filename] of fields) data.append(key, value, ...filename);
  return data;
}

export const api = {
  calibration: () => request("GET", "calibration"),
  classes: () => request("GET", "classes"),
  pictures: (name, after) => request("GET", `${ofClass(name)}/pictures?after=${after}`),
  query: (picture, name) => request("POST", "query", form([["picture", picture, name]])),
  add: (name, picture, source) =>
    request("POST", `${ofClass(name)}/pictures`, form([["picture", picture, source]])),
  move: (id, name) => request("PUT", `pictures/${id}/class`, form([["name", name]])),
  removeClass: (name) => request("DELETE", ofClass(name)),
  removePicture: (id) => request("DELETE", `pictures/${id}`),
  thumbnail: (id) => `pictures/${id}/thumbnail`,
};
