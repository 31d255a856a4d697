using Z1Coder.Kernels;
using Z1Coder.Runtime;
using Z1Coder.Trainer.Batches;

namespace Z1Coder.Trainer.Model;

public sealed partial class Qwen2<T>
{
    /// <summary>
    /// One micro-batch: forward, loss, backward. Parameter gradients are those of <paramref name="lossScale"/> · Σ −log p(target) over the loss
    /// tokens, nats; that sum is added to <see cref="Activations{T}.LossSum"/>, and nothing waits for it here.
    /// </summary>
    /// <param name="stream">where it runs</param>
    /// <param name="a">activations declared for training</param>
    /// <param name="batch">T tokens</param>
    /// <param name="gradients">fp32, one tensor per block: overwritten, or added to with <paramref name="accumulate"/>. Windows are never added
    /// to: what becomes of them is the traffic's affair</param>
    /// <param name="lossScale">1 / loss tokens of the whole step, for the token-mean rule</param>
    /// <param name="accumulate">false for the first micro-batch of a step: no zeroing pass is needed</param>
    public void ForwardBackward(
        ComputeStream stream, Activations<T> a, PackedBatch batch, ParameterSet<float> gradients, float lossScale, bool accumulate)
    {
        using (StreamRange.Of(stream, "forward"))
        {
            Forward(stream, a, batch);
        }

        using (StreamRange.Of(stream, "head"))
        {
            HeadForwardBackward(stream, a, batch, gradients, lossScale, accumulate);
        }

        using (StreamRange.Of(stream, "backward"))
        {
            DecoderBackward(stream, a, batch, gradients, accumulate);
        }
    }

    /// <summary>The second part of <see cref="ForwardBackward"/>: LM head and loss, leaving the gradient of the normalised last hidden states.</summary>
    internal void HeadForwardBackward(
        ComputeStream stream, Activations<T> a, PackedBatch batch, ParameterSet<float> gradients, float lossScale, bool accumulate)
    {
        var t = batch.TokenCount;
        _traffic.Use(stream, HeadUnit);
        _traffic.Open(stream, HeadUnit);
        _traffic.Open(stream, ShardLayout.Embedding);      // a tied head writes there
        CrossEntropy.HeadForwardBackward(
            stream, Rows(a.FinalNorm, t), Weights[_p.Head], a.Head, Rows(a.DBranch, t), gradients[_p.Head], accumulate, lossScale, a.LossSum);
    }

    /// <summary>The third part of <see cref="ForwardBackward"/>: from there down to the embedding.</summary>
    internal void DecoderBackward(ComputeStream stream, Activations<T> a, PackedBatch batch, ParameterSet<float> gradients, bool accumulate)
    {
        var t = batch.TokenCount;
        var dHidden = Rows(a.DHidden, t);
        RmsNorm.Backward(
            stream, Rows(a.DBranch, t), Rows(a.Output, t), Weights[_p.FinalNorm], a.FinalRstd.Prefix(t), default, dHidden, gradients[_p.FinalNorm], accumulate);
        _traffic.Close(stream, HeadUnit);

        for (var l = a.Layers.Length - 1; l >= 0; l--)
        {
            _traffic.Use(stream, ShardLayout.Layer(l));
            _traffic.Open(stream, ShardLayout.Layer(l));
            LayerBackward(stream, a, l, t, gradients, accumulate);
            _traffic.Close(stream, ShardLayout.Layer(l));
            LeaveBackward(stream, l);
        }

        // A tied embedding already holds the head's gradient of this micro-batch.
        Embedding.Backward(stream, a.TokenIds.Prefix(t), dHidden, gradients[_p.Embedding], accumulate || Config.TieWordEmbeddings);
        _traffic.Close(stream, ShardLayout.Embedding);
    }

    private void LeaveBackward(ComputeStream stream, int l)
    {
        if (l >= 2)
        {
            _traffic.Prefetch(stream, ShardLayout.Layer(l - 2));
        }
    }

    /// <summary>a.DHidden: in, the gradient of the layer's output; out, of its input.</summary>
    private void LayerBackward(
        ComputeStream stream, Activations<T> a, int l, int t, ParameterSet<float> gradients, bool accumulate)
    {
        var (layer, w) = (a.Layers[l], _p.Layers[l]);
        var (heads, kvHeads, headDim) = (Config.NumAttentionHeads, Config.NumKeyValueHeads, Config.HeadDim);
        var dHidden = Rows(a.DHidden, t);
        var dBranch = Rows(a.DBranch, t);
        var dAct = Rows(a.DAct, t);
        var dAttention = Rows(a.DAttention, t);
        var dQkv = Rows(a.DQkv, t);
        var gateUp = Rows(layer.GateUp, t);
        Restore(stream, a, l, t);

        // MLP: out = act · Downᵀ
        LinearBackwardInput(stream, a, LinearLayer.Down, dHidden, w.Down, dAct);
        LinearBackwardWeight(stream, a, LinearLayer.Down, dHidden, Rows(layer.Act, t), gradients[w.Down], accumulate);
        SwiGlu.Backward(stream, dAct, gateUp, gateUp);
        LinearBackwardInput(stream, a, LinearLayer.GateUp, gateUp, w.GateUp, dBranch);
        if ((a.Recompute & (Recompute.Norm | Recompute.Block)) == Recompute.Norm)
        {
            RmsNorm.Forward(
                stream, Rows(layer.Middle, t), Weights[w.PostAttentionNorm], Rows(layer.MiddleNorm, t), layer.MiddleRstd.Prefix(t),
                (float)Config.RmsNormEps);
        }

        LinearBackwardWeight(stream, a, LinearLayer.GateUp, gateUp, Rows(layer.MiddleNorm, t), gradients[w.GateUp], accumulate);
        RmsNorm.Backward(
            stream, dBranch, Rows(layer.Middle, t), Weights[w.PostAttentionNorm], layer.MiddleRstd.Prefix(t), dHidden, dHidden,
            gradients[w.PostAttentionNorm], accumulate);

        // Attention: middle = x + attention · Outputᵀ
        LinearBackwardInput(stream, a, LinearLayer.Output, dHidden, w.Output, dAttention);
        LinearBackwardWeight(stream, a, LinearLayer.Output, dHidden, Rows(layer.Attention, t), gradients[w.Output], accumulate);
        Attention.Backward(
            stream, dAttention, Rows(layer.Qkv, t), Rows(layer.Attention, t), Rows(layer.Lse, t), dQkv, heads, kvHeads, headDim,
            a.AttentionWorkspace);
        Rope.Backward(stream, dQkv, a.Positions.Prefix(t), a.Rope, heads + kvHeads, headDim);
        if (w.QkvBias >= 0)
        {
            Matmul.BackwardBias(stream, dQkv, gradients[w.QkvBias], accumulate);
        }

        LinearBackwardInput(stream, a, LinearLayer.Qkv, dQkv, w.Qkv, dBranch);
        if ((a.Recompute & (Recompute.Norm | Recompute.Block)) != 0)   // both norms of a layer share one buffer
        {
            RmsNorm.Forward(
                stream, Rows(layer.Input, t), Weights[w.InputNorm], Rows(layer.InputNorm, t), layer.InputRstd.Prefix(t), (float)Config.RmsNormEps);
        }

        LinearBackwardWeight(stream, a, LinearLayer.Qkv, dQkv, Rows(layer.InputNorm, t), gradients[w.Qkv], accumulate);
        RmsNorm.Backward(
            stream, dBranch, Rows(layer.Input, t), Weights[w.InputNorm], layer.InputRstd.Prefix(t), dHidden, dHidden, gradients[w.InputNorm], accumulate);
    }

    /// <summary>Computes again what <see cref="Activations{T}.Recompute"/> says was not kept, by the same operations on the same inputs.</summary>
    private void Restore(ComputeStream stream, Activations<T> a, int l, int t)
    {
        var (layer, w) = (a.Layers[l], _p.Layers[l]);
        if ((a.Recompute & Recompute.Block) != 0)
        {
            RmsNorm.Forward(
                stream, Rows(layer.Input, t), Weights[w.InputNorm], Rows(layer.InputNorm, t), layer.InputRstd.Prefix(t), (float)Config.RmsNormEps);
            LayerForward(stream, a, l, t);
        }
        else if ((a.Recompute & Recompute.SwiGlu) != 0)
        {
            SwiGlu.Forward(stream, Rows(layer.GateUp, t), Rows(layer.Act, t));
        }
    }
}
