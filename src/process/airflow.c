/* A process as an Airflow DAG. Names stand in it as Python literals, commands as lists: neither Python nor a shell reads them as its own. */
#include <mintfs/process.h>

#include <errno.h>
#include <stdio.h>
#include <string.h>

/* JSON's strings are Python's, as long as what is not ASCII is UTF-8 and control characters are escaped. */
static void literal(struct buf *out, const char *text)
{
	struct json_out j;
	json_init(&j, out, 0);
	json_string(&j, text);
}

/* task_id takes letters, digits, '-', '_' and '.'; others become '_', and the place makes them unique again. */
static void task_id(struct buf *out, const struct process_spec *s, unsigned i)
{
	buf_putc(out, '"');
	for (const char *p = s->nodes[i].name; *p; p++) {
		bool plain = (*p >= 'a' && *p <= 'z') || (*p >= 'A' && *p <= 'Z') || (*p >= '0' && *p <= '9') || *p == '-' || *p == '_';
		buf_putc(out, plain ? *p : '_');
	}
	buf_printf(out, ".%u\"", i + 1);
}

static void add_operator(struct buf *out, const struct process_spec *s, unsigned i)
{
	buf_printf(out, "    node_%u = PythonOperator(task_id=", i + 1);
	task_id(out, s, i);
	buf_puts(out, ", python_callable=node, op_args=[");
	literal(out, s->nodes[i].name);
	buf_puts(out, "])\n");
}

static void add_arrows(struct buf *out, const struct process_spec *s, unsigned i)
{
	for (unsigned k = 0; k < s->nodes[i].n_after; k++)
		buf_printf(out, "    node_%u >> node_%u\n", s->nodes[i].after[k] + 1, i + 1);
	if (s->nodes[i].n_after == 0)
		buf_printf(out, "    begin >> node_%u\n", i + 1);
	buf_printf(out, "    node_%u >> end\n", i + 1);
}

int process_airflow(const struct registry_process *p, const char *store, struct buf *out)
{
	const struct process_spec *s = &p->spec;
	const char *name = strchr(p->model.path, '/') + 1;
	buf_printf(out, "\"\"\"v%u of a MintFS process as an Airflow DAG; written by `mintfs process export`. Each task runs one node of one run.\"\"\"\n"
		"import subprocess\n\nimport pendulum\nfrom airflow import DAG\nfrom airflow.operators.python import PythonOperator\n\nSTORE = ", p->version.number);
	literal(out, store);
	buf_puts(out, "\nPROCESS = ");
	char version[CATALOG_PATH_MAX + 16];
	snprintf(version, sizeof version, "%s/v%u", name, p->version.number);
	literal(out, version);
	buf_puts(out, "\n\n\ndef mintfs(what, *names, ti=None):\n"
		"    \"\"\"Runs mintfs without a shell; what it prints goes to the task's log. A name may begin with '-'.\"\"\"\n"
		"    run = [\"--run\", ti.xcom_pull(task_ids=\"begin\", key=\"run\")] if ti else []\n"
		"    words = [\"mintfs\", \"process\", \"--store\", STORE, *run, \"--\", what, *names]\n"
		"    return subprocess.run(words, check=True, stdout=subprocess.PIPE, text=True).stdout\n\n\n"
		"def begin_run(ti):\n"
		"    ti.xcom_push(key=\"run\", value=mintfs(\"begin\", PROCESS).strip())\n\n\n"
		"def node(name, ti):\n"
		"    print(mintfs(\"node\", PROCESS, name, ti=ti))\n\n\n"
		"def end_run(ti):\n"
		"    print(mintfs(\"end\", PROCESS, ti=ti))\n\n\n"
		"with DAG(dag_id=");
	literal(out, p->model.key);
	buf_puts(out, ", schedule=None, start_date=pendulum.datetime(2025, 1, 1), catchup=False) as dag:\n"
		"    begin = PythonOperator(task_id=\"begin\", python_callable=begin_run)\n");
	for (unsigned i = 0; i < s->n_nodes; i++)
		add_operator(out, s, i);
	buf_puts(out, "    end = PythonOperator(task_id=\"end\", python_callable=end_run)\n");
	for (unsigned i = 0; i < s->n_nodes; i++)
		add_arrows(out, s, i);
	return out->error;
}
