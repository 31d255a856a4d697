using Z1Coder.Kernels;
using Z1Coder.Runtime;
using Z1Coder.Trainer.Batches;

namespace Z1Coder.Trainer.Model;

public sealed partial class Qwen2<T>
{
    /// <summary>
    /// Runs the decoder over a packed batch; the normalised last hidden states stay in the activations for the loss.
    /// </summary>
    /// <param name="stream">where it runs</param>
    /// <param name="a">receives every activation that the backward pass needs</param>
    /// <param name="batch">T tokens of S whole samples</param>
    public void Forward(ComputeStream stream, Activations<T> a, PackedBatch batch)
    {
        Load(stream, a, batch);
        var t = batch.TokenCount;
        var eps = (float)Config.RmsNormEps;
        var tokens = a.TokenIds.Prefix(t);

        BeginForward(stream);
        var layer = a.Layers[0];
        Embedding.Forward(stream, tokens, Weights[_p.Embedding], Rows(layer.Input, t));
        RmsNorm.Forward(stream, Rows(layer.Input, t), Weights[_p.Layers[0].InputNorm], Rows(layer.InputNorm, t), layer.InputRstd.Prefix(t), eps);

        for (var l = 0; l < a.Layers.Length; l++)
        {
            layer = a.Layers[l];
            var branch = LayerForward(stream, a, l, t);

            // x_{l+1} = middle + branch, and at once the norm that reads it: the next layer's, or the final one.
            _traffic.Use(stream, l + 1 < a.Layers.Length ? ShardLayout.Layer(l + 1) : HeadUnit);
            if (l + 1 < a.Layers.Length)
            {
                var next = a.Layers[l + 1];
                RmsNorm.ForwardResidual(
                    stream, branch, Rows(layer.Middle, t), Weights[_p.Layers[l + 1].InputNorm],
                    Rows(next.Input, t), Rows(next.InputNorm, t), next.InputRstd.Prefix(t), eps);
            }
            else
            {
                RmsNorm.ForwardResidual(
                    stream, branch, Rows(layer.Middle, t), Weights[_p.FinalNorm],
                    Rows(a.Output, t), Rows(a.FinalNorm, t), a.FinalRstd.Prefix(t), eps);
            }

            LeaveForward(stream, l);
        }
    }

    /// <summary>Sum of the token losses of a batch; each stays in <see cref="Activations{T}.TokenLosses"/>.</summary>
    /// <returns>Σ −log p(target) over the loss tokens, nats; waits for it</returns>
    public double Loss(ComputeStream stream, Activations<T> a, PackedBatch batch)
    {
        Forward(stream, a, batch);
        Zero.Fill(stream, a.LossSum);
        CrossEntropy.HeadForward(
            stream, Rows(a.FinalNorm, batch.TokenCount), Weights[_p.Head], a.Head, a.TokenLosses.Prefix(batch.TokenCount), a.LossSum);
        return a.ReadLossSum(stream);
    }

    private void BeginForward(ComputeStream stream)
    {
        _traffic.Use(stream, ShardLayout.Embedding);
        _traffic.Use(stream, ShardLayout.Layer(0));
        if (_p.Layers.Length > 1)
        {
            _traffic.Prefetch(stream, ShardLayout.Layer(1));
        }

        _traffic.Prefetch(stream, HeadUnit);
    }

    /// <summary>Nothing reads the layer's weights any more, so the layer after the next may take their place.</summary>
    private void LeaveForward(ComputeStream stream, int l)
    {
        if (l + 2 < _p.Layers.Length)
        {
            _traffic.Prefetch(stream, ShardLayout.Layer(l + 2));
        }
    }

    /// <summary>The body of one layer, from its normalised input to the MLP's output; the caller adds the residual.</summary>
    private Tensor<T> LayerForward(ComputeStream stream, Activations<T> a, int l, int t)
    {
        var (layer, w) = (a.Layers[l], _p.Layers[l]);
        var qkv = Rows(layer.Qkv, t);
        var branch = Rows(a.Branch, t);

        Linear(stream, a, LinearLayer.Qkv, Rows(layer.InputNorm, t), w.Qkv, Weights[w.QkvBias], qkv);
        Rope.Forward(stream, qkv, a.Positions.Prefix(t), a.Rope, Config.NumAttentionHeads + Config.NumKeyValueHeads, Config.HeadDim);
        Attention.Forward(
            stream, qkv, Rows(layer.Attention, t), Rows(layer.Lse, t), Config.NumAttentionHeads, Config.NumKeyValueHeads, Config.HeadDim,
            a.AttentionWorkspace);
        Linear(stream, a, LinearLayer.Output, Rows(layer.Attention, t), w.Output, default, branch);
        RmsNorm.ForwardResidual(
            stream, branch, Rows(layer.Input, t), Weights[w.PostAttentionNorm],
            Rows(layer.Middle, t), Rows(layer.MiddleNorm, t), layer.MiddleRstd.Prefix(t), (float)Config.RmsNormEps);

        Linear(stream, a, LinearLayer.GateUp, Rows(layer.MiddleNorm, t), w.GateUp, default, Rows(layer.GateUp, t));
        SwiGlu.Forward(stream, Rows(layer.GateUp, t), Rows(layer.Act, t));
        Linear(stream, a, LinearLayer.Down, Rows(layer.Act, t), w.Down, default, branch);
        return branch;
    }

    private static Tensor<TElement> Rows<TElement>(Tensor<TElement> whole, int t)
        where TElement : unmanaged =>
        whole.Rows(0, t);
}
