using System.Text.RegularExpressions;
using Xunit;
using YamlDotNet.RepresentationModel;
using Z1Coder.Runtime;
using Z1Coder.Trainer.Train;

namespace Z1Coder.Tests.Trainer.Launch;

/// <summary>deploy/kubernetes/train.yaml fits together, and its pods read their ranks from what it sets. No cluster is asked.</summary>
public sealed class KubernetesTests
{
    [Fact]
    public void The_job_gives_every_pod_a_rank_and_the_address_of_rank_0()
    {
        var yaml = new YamlStream();
        using (var text = File.OpenText(Path.Combine(Goldens.RepositoryRoot, "deploy", "kubernetes", "train.yaml")))
        {
            yaml.Load(text);
        }

        Assert.Equal(2, yaml.Documents.Count);
        var (service, job) = (yaml.Documents[0].RootNode, yaml.Documents[1].RootNode);
        Assert.Equal(("v1", "Service"), (Text(service, "apiVersion"), Text(service, "kind")));
        Assert.Equal(("batch/v1", "Job"), (Text(job, "apiVersion"), Text(job, "kind")));
        var (serviceName, jobName) = (Text(service, "metadata", "name"), Text(job, "metadata", "name"));
        Assert.Equal("None", Text(service, "spec", "clusterIP"));
        Assert.Equal("true", Text(service, "spec", "publishNotReadyAddresses"));
        Assert.Equal(jobName, Text(service, "spec", "selector", "job-name"));
        Assert.Equal(serviceName, Text(job, "spec", "template", "spec", "subdomain"));
        Assert.Equal("Indexed", Text(job, "spec", "completionMode"));
        Assert.Equal(Text(job, "spec", "completions"), Text(job, "spec", "parallelism"));

        var container = ((YamlSequenceNode)At(job, "spec", "template", "spec", "containers")).Single();
        var variables = ((YamlSequenceNode)At(container, "env")).ToDictionary(e => Text(e, "name"), e => Text(e, "value"));
        Assert.Equal(Text(job, "spec", "completions"), variables["WORLD_SIZE"]);
        Assert.Equal(variables["MASTER_PORT"], Text(((YamlSequenceNode)At(service, "spec", "ports")).Single(), "port"));
        for (var index = 0; index < int.Parse(variables["WORLD_SIZE"]); index++)
        {
            variables["JOB_COMPLETION_INDEX"] = $"{index}";
            var found = RankEnvironment.Detect(variables);
            Assert.Equal(("Kubernetes", index, 0, 1, $"{jobName}-0.{serviceName}"), (found.Launcher, found.Rank, found.LocalRank, found.LocalSize, found.MasterAddress));
        }

        var command = ((YamlSequenceNode)At(container, "command")).Select(n => ((YamlScalarNode)n).Value!).ToArray();
        Assert.Equal(["z1", "train"], command[..2]);
        var parsed = Z1Coder.Trainer.Cli.TrainCommand.Create().Parse(command[2..]);
        Assert.Empty(parsed.Errors);
        Assert.True(parsed.GetValue<bool>("--resume"));
        Assert.NotEqual(0, parsed.GetValue<int>("--stopped-exit-code"));           // which OnFailure would take for complete
        Assert.Equal("OnFailure", Text(job, "spec", "template", "spec", "restartPolicy"));
        var mounts = ((YamlSequenceNode)At(container, "volumeMounts")).ToDictionary(m => Text(m, "name"), m => Text(m, "mountPath"));
        Assert.Equal(((YamlSequenceNode)At(job, "spec", "template", "spec", "volumes")).Select(v => Text(v, "name")).Order(), mounts.Keys.Order());

        // every path, seen from where the container starts, lies in a volume; the recipe lies in the image
        var (work, file) = (Text(container, "workingDir"), parsed.GetValue<string>("recipe")!);
        var recipe = TrainRecipe.Load(Path.Combine(Goldens.RepositoryRoot, file), []);
        string[] paths = [recipe.Model.From!, parsed.GetValue<string>("--out")!, .. recipe.Stages.SelectMany(s => s.Data.Files)];
        Assert.All(paths, p => Assert.Contains(mounts.Values, mount => $"{work}/{p}".StartsWith(mount + "/", StringComparison.Ordinal)));
        var image = File.ReadAllText(Path.Combine(Goldens.RepositoryRoot, "deploy", "Dockerfile"));
        Assert.Contains($"COPY recipes {work}/{Path.GetDirectoryName(file)}\n", image);
        Assert.Contains($"WORKDIR {work}\n", image);
    }

    [Fact]
    public void Every_variable_that_the_operators_page_names_is_one_that_the_code_reads()
    {
        var page = File.ReadAllText(Path.Combine(Goldens.RepositoryRoot, "deploy", "README.md"));
        var source = File.ReadAllText(Path.Combine(Goldens.RepositoryRoot, "src", "Runtime", "Collectives", "RankEnvironment.cs"));
        var named = Regex.Matches(page, @"`([A-Z][A-Z0-9]*_[A-Z0-9_]+)`").Select(m => m.Groups[1].Value).Distinct().ToList();
        Assert.True(named.Count > 15, $"only {named.Count} variables found in deploy/README.md");
        string[] elsewhere = ["CUDA_VISIBLE_DEVICES", "NCCL_SOCKET_IFNAME", "Z1_NCCL", "Z1_MPI"];
        Assert.All(named.Except(elsewhere), n => Assert.True(Regex.IsMatch(source, $"\"{n}\""), $"{n} is not read by RankEnvironment"));
    }

    private static YamlNode At(YamlNode node, params string[] path) => path.Aggregate(node, (n, key) => n[key]);

    private static string Text(YamlNode node, params string[] path) => ((YamlScalarNode)At(node, path)).Value!;
}
